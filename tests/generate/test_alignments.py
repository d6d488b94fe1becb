"""Attention maps of a batch of outputs, against the weights of one pair at a time."""

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import alignments, attention_maps, generate
from dragoman.nn import record_attention

SOURCES, OUTPUTS = [[4, 5, 6, 7], [8], [9, 10, 11]], [[12, 13], [], [14, 15, 16, 17, 18]]


def build(**options):
    dg.manual_seed(3)
    sizes = {"vocab_size": 23, "d_model": 16, "num_heads": 4, "d_ff": 24, "num_encoder_layers": 1}
    return dg.Transformer(dg.TransformerConfig(**{**sizes, "num_decoder_layers": 3, **options}))


@pytest.mark.parametrize("options", [{}, {"start_id": (2, 3)}, {"positions": "rotary", "kv_heads": 2}], ids=str)
def test_maps_of_a_batch_are_those_of_each_pair(options):
    model = build(**options)
    start = options.get("start_id", (model.config.bos_id,))
    maps = attention_maps(model, SOURCES, OUTPUTS, layers=[-1, 0], heads=[3, 1, 1])
    for weights, source, output in zip(maps, SOURCES, OUTPUTS, strict=True):
        cross = model.attention_weights(source, [*start, *output])["cross"]
        expected = np.stack([cross[2], cross[0]])[:, [3, 1, 1], len(start) - 1 :]
        assert weights.shape == (2, 3, len(output) + 1, len(source))
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-5)
    assert attention_maps(model, SOURCES, OUTPUTS)[0].shape == (3, 4, 3, 4)
    assert attention_maps(model, [], []) == []


def test_alignments_are_the_largest_mean_weights():
    model = build()
    found = generate(model, SOURCES, beam=2, max_length=5)
    outputs = [hypotheses[0].ids for hypotheses in found]
    for layers, of in (None, 1), ([2], 2):
        expected = []
        for source, output in zip(SOURCES, outputs, strict=True):
            cross = model.attention_weights(source, [model.config.bos_id, *output])["cross"][of]
            expected.append(cross.mean(axis=0)[:-1].argmax(axis=1).tolist())
        assert alignments(model, SOURCES, outputs, layers=layers) == expected
    assert alignments(build(num_decoder_layers=1), [[]], [[4, 5]]) == [[-1, -1]]


def test_only_the_chosen_attentions_leave_their_weights():
    model = build()
    chosen = model.decoder.layers[1].cross_attention
    with record_attention([chosen]) as record:
        model.logits([[4]], [[1, 5]])
    assert list(record) == [chosen]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": 3}, TypeError, "attention_maps: model must be a Transformer, got int"),
        ({"outputs": [[4]]}, ValueError, "attention_maps: .* must have 3 sentences"),
        ({"outputs": [[4], [23], []]}, ValueError, r"attention_maps: outputs\[1\]\[0\] must lie in"),
        ({"layers": [3]}, ValueError, r"attention_maps: layers must lie in \[-3, 3\), got 3"),
        ({"heads": [-5]}, ValueError, r"attention_maps: heads must lie in \[-4, 4\), got -5"),
        ({"heads": []}, ValueError, "attention_maps: heads must hold at least one number, got none"),
        ({"layers": [1.5]}, TypeError, "attention_maps: layers"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, error, message):
    values = {"model": build(), "src_batch": SOURCES, "outputs": OUTPUTS, **arguments}
    with pytest.raises(error, match=message):
        attention_maps(**values)
