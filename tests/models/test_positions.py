"""Every kind of position and of block, and sides that differ, in an encoder-decoder: with the cache, recorded, in
training, and what a config refuses."""

import copy

import dragoman as dg
import numpy as np
import pytest
from dragoman import program
from dragoman.nn import KVCache

KINDS = {
    "sinusoidal": {},
    "halves": {"position_layout": "halves", "position_offset": 3},
    "fairseq": {"position_layout": "fairseq", "position_offset": 2},
    "learned": {"positions": "learned", "position_offset": 2},
    "none": {"positions": "none"},
    "relative": {"positions": "relative", "position_buckets": 8, "position_distance": 20, "attention_scale": 1.0},
    "alibi": {"positions": "alibi"},
    "shaw": {"positions": "shaw", "position_distance": 3},
    "rotary": {"positions": "rotary"},
    "partial": {"positions": "rotary", "rotary_features": 2, "rotary_scaling": {"type": "linear", "factor": 2.0}},
    "scaled": {"positions": "rotary", "rotary_scaling": {"type": "llama3", "factor": 8, "original_max_length": 32}},
    "grouped": {"positions": "rotary", "kv_heads": 2, "head_dim": 6, "qk_norm": "rms", "attention_bias": "qkv"},
    "window": {"positions": "alibi", "window": 3, "kv_heads": 1},
}
BLOCKS = {
    "layers": {
        "layers": [{"window": 4, "positions": "rotary"}, {"num_heads": 2, "kv_heads": 1, "gated": True}],
        "positions": "none",
        "output_scale": 0.25,
    },
    "sandwich": {"norm_first": True, "sandwich_norm": True, "norm": "rms", "gated": True, "activation": "gelu_tanh"},
    "concat": {"residual": "concat", "embedding_norm": True, "feed_forward_bias": False, "activation": "tanh"},
}
SIDES = {
    "widths": {
        "tie_embeddings": "two",
        "encoder": {"d_model": 12, "num_heads": 3, "d_ff": 20, "positions": "relative", "norm_first": True},
        "decoder": {"kv_heads": 2, "head_dim": 6, "positions": "rotary"},
    },
    "heads": {"encoder": {"num_heads": 8, "d_ff": 9}, "decoder": {"num_heads": 2, "norm": "rms", "norm_first": True}},
}


ALL = KINDS | BLOCKS | SIDES
TEXTS = [*KINDS, "sandwich", "concat"]


@pytest.fixture(params=[*ALL.values()], ids=ALL)
def model(request, rng):
    config = dg.TransformerConfig(
        vocab_size=29, d_model=16, num_heads=4, d_ff=24, num_encoder_layers=2, num_decoder_layers=2, **request.param
    )
    model = dg.Transformer(config.with_dropout(0.0))
    model.load_state_dict(
        {k: v + rng.normal(0, 0.2, v.shape).astype(np.float32) for k, v in model.state_dict().items()}
    )
    return model


SOURCES = [[5, 6, 7], [8], [9, 10, 11, 12, 4, 5, 6], list(range(4, 24))]


def test_cached_decoding_is_the_whole_pass(model):
    """Greedy steps over the cache, past the growth of its slots and tables, are one pass over all tokens but for the
    rounding of another kernel; so are chunks of several tokens."""
    with model.inference():
        src_ids, src_sequences = model.pack_source("test", SOURCES)
        memory, cache, tokens = model.encode(src_ids, src_sequences), KVCache(len(SOURCES)), [[1] for _ in SOURCES]
        rows = []
        for _ in range(70):
            hidden = model.decode(
                [ids[-1] for ids in tokens], dg.Sequences([1] * len(SOURCES)), memory, src_sequences, cache
            )
            rows.append(hidden.numpy())
            for ids, best in zip(tokens, model.project(hidden).numpy().argmax(1), strict=True):
                ids.append(int(best))
        fed = [ids[:-1] for ids in tokens]
        whole = model.decode(np.concatenate(fed), dg.Sequences([70] * len(SOURCES)), memory, src_sequences)
        np.testing.assert_allclose(np.stack(rows, 1).reshape(whole.shape), whole.numpy(), rtol=1e-5, atol=1e-5)
        chunks = KVCache(len(SOURCES))
        for begin, end in ((0, 3), (3, 40), (40, 41), (41, 70)):
            ids = np.concatenate([ids[begin:end] for ids in fed])
            part = model.decode(ids, dg.Sequences([end - begin] * len(SOURCES)), memory, src_sequences, chunks).numpy()
            expected = whole.numpy().reshape(len(SOURCES), 70, -1)[:, begin:end]
            np.testing.assert_allclose(part.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_generate_is_greedy_without_a_cache(model):
    """The tokens of the search are those of a whole pass for each token."""
    results = dg.generate.generate(model, SOURCES, max_length=12)
    for source, (best,) in zip(SOURCES, results, strict=True):
        ids = []
        while len(ids) < 12:
            logits = model.logits([source], [[1, *ids]])[-1].copy()
            logits[[0, 1, 3]] = -np.inf  # pad, bos and unk are never chosen
            if logits.argmax() == model.config.eos_id:
                break
            ids.append(int(logits.argmax()))
        assert best.ids == ids


def test_a_recorded_step_is_the_eager_one(model, rng):
    for table in (model.tgt_positions, model.decoder.layers[0].self_attention.positions):
        if isinstance(table, dg.nn.SinusoidalPositionalEncoding | dg.nn.RotaryPositions):
            table(200)  # a constant of the Program: it must be long enough when recorded

    def step(ids, one_each, memory, read, cache):
        return model.project(model.decode(ids, one_each, memory, read, cache))

    def inputs(lengths, steps, seed):
        rng = np.random.default_rng(seed)
        src_sequences, one_each = dg.Sequences(lengths), dg.Sequences([1] * len(lengths))
        memory, cache = model.encode(rng.integers(4, 29, sum(lengths)), src_sequences), KVCache(len(lengths))
        for _ in range(steps):
            step(rng.integers(4, 29, len(lengths)), one_each, memory, src_sequences, cache)
        ids = dg.tensor(rng.integers(4, 29, len(lengths)).astype(np.int32))
        return ids, one_each, memory, src_sequences, cache

    with model.inference():
        recorded = program.record(step, inputs([3, 2], 2, 0), inputs([1, 4, 2], 35, 1))
        for lengths, steps in (([5], 1), ([2, 1, 6, 3], 64)):
            (replayed,) = recorded(*inputs(lengths, steps, 2))
            np.testing.assert_array_equal(replayed.numpy(), step(*inputs(lengths, steps, 2)).numpy())


@pytest.mark.cpu
def test_training_has_the_same_bits_for_any_thread_count(model):
    """Parameters and gradients of three steps; every parameter has a gradient."""
    state = model.state_dict()

    def train(threads):
        dg.set_num_threads(threads)
        dg.manual_seed(3)
        model.load_state_dict(state)
        optimizer = dg.optim.AdamW(model, lr=1e-3)
        for _ in range(3):
            loss = model.loss(SOURCES, SOURCES[::-1])
            loss.backward()
            optimizer.step()
        return loss.item(), model.state_dict()

    loss, expected = train(1)
    for threads in (2, 3):
        other, actual = train(threads)
        assert other == loss
        for name, array in expected.items():
            np.testing.assert_array_equal(actual[name], array)
    unchanged = [name for name, array in expected.items() if np.array_equal(array, state[name])]
    assert not [name for name in unchanged if not name.endswith("k_proj.bias")], "softmax does not see a key's bias"


def test_a_saved_model_and_a_copy_are_the_same(model, tmp_path, device):
    model.save(tmp_path)
    loaded = dg.load(tmp_path).to(device)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.logits(SOURCES, SOURCES), model.logits(SOURCES, SOURCES))
    np.testing.assert_array_equal(copy.deepcopy(model).logits(SOURCES, SOURCES), model.logits(SOURCES, SOURCES))
    assert model.memory_plan(200)["peak"] > 0


def test_layers_computed_again_have_the_same_bits(model):
    """Tables that layers share, too."""
    gradients = []
    for again in (False, True):
        model.checkpoint_layers = again
        for parameter in model.parameters():
            parameter.grad = None
        for _ in range(2):  # the second adds to the first
            model.loss(SOURCES, SOURCES[::-1]).backward()
        gradients.append([parameter.grad.numpy().copy() for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        np.testing.assert_array_equal(checkpointed, plain)


def test_bfloat16_training(model):
    """Losses and gradients near those of float32."""
    half = dg.Transformer(model.config, compute_dtype="bfloat16")
    half.load_state_dict(model.state_dict())
    losses = []
    for m in (model, half):
        losses.append(m.loss(SOURCES, SOURCES[::-1]))
        losses[-1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    for (name, x), y in zip(model.named_parameters(), half.parameters(), strict=True):
        exact, rough = x.grad.numpy(), y.grad.numpy()
        assert np.linalg.norm(rough - exact) <= 0.3 * np.linalg.norm(exact) + 1e-3, name


@pytest.mark.parametrize("kind", [(KINDS | BLOCKS)[name] for name in TEXTS], ids=TEXTS)
def test_an_encoder_of_text(kind, rng, tmp_path, device):
    """A text's row does not depend on its batch; the model is saved and loaded; every parameter learns."""
    sizes = {"vocab_size": 29, "d_model": 16, "num_heads": 4, "d_ff": 24, "num_layers": 2}
    model = dg.models.TextEncoder(
        dg.models.EncoderConfig(**sizes, head="classify", labels=("a", "b"), **kind).with_dropout(0.0)
    )
    model.load_state_dict(
        {k: v + rng.normal(0, 0.2, v.shape).astype(np.float32) for k, v in model.state_dict().items()}
    )
    together = model.logits(SOURCES)
    np.testing.assert_allclose(np.concatenate([model.logits([ids]) for ids in SOURCES]), together, atol=1e-6)
    model.save(tmp_path)
    np.testing.assert_array_equal(dg.load(tmp_path).to(device).logits(SOURCES), together)
    model.loss(SOURCES, [0, 1, 1, 0]).backward()
    still = [name for name, p in model.named_parameters() if not p.grad.numpy().any()]
    assert not [name for name in still if not name.endswith("k_proj.bias")], "softmax does not see a key's bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"positions": "absolute"},
            "positions must be one of sinusoidal, learned, relative, alibi, shaw, rotary, none",
        ),
        ({"position_layout": "sines"}, "position_layout must be one of interleaved, halves, fairseq, got 'sines'"),
        ({"position_offset": -1}, "position_offset must be an int of at least 0, got -1"),
        ({"positions": "relative", "position_buckets": 3}, "position_buckets must be an int of at least 4, got 3"),
        ({"positions": "relative", "position_distance": 16}, "position_distance must be above 16, half of"),
        ({"positions": "rotary", "rotary_features": 3}, "rotary_features must be an even number, at most 4, .*got 3"),
        ({"positions": "rotary", "head_dim": 5}, "rotary_features must be an even number below 5.*got None"),
        ({"rotary_base": 0}, "rotary_base must be a number above 0, got 0"),
        ({"kv_heads": 3}, "kv_heads must be a divisor of num_heads = 4, got 3"),
        ({"head_dim": 0}, "head_dim must be None or an int above 0, got 0"),
        ({"attention_scale": 0.0}, "attention_scale must be None or a number above 0, got 0.0"),
        ({"score_cap": 0}, "score_cap must be None or a number above 0, got 0"),
        ({"score_cap": 1.0, "positions": "alibi"}, "score_cap must be None with positions that change scores, got 1.0"),
        ({"attention_bias": "qx"}, "attention_bias must be made of letters of \"qkvo\", got 'qx'"),
        ({"qk_norm": "layer"}, "qk_norm must be one of none, rms, got 'layer'"),
        ({"window": -1}, "window must be None or an int of at least 0, got -1"),
    ],
    ids=str,
)
def test_a_config_names_the_field(change, message):
    sizes = {
        "vocab_size": 9,
        "d_model": 16,
        "num_heads": 4,
        "d_ff": 8,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
    }
    with pytest.raises(ValueError, match=f"TransformerConfig: {message}"):
        dg.TransformerConfig(**(sizes | change))


def test_layers_share_a_relative_bias_and_no_tables_of_shaw():
    for positions, names in (("relative", ["0"]), ("shaw", ["0", "1"])):
        config = dg.TransformerConfig.tiny(vocab_size=20, num_decoder_layers=2, positions=positions)
        names_of = [n for n, _ in dg.Transformer(config).named_parameters() if "positions" in n and "decoder" in n]
        assert sorted({n.split(".")[2] for n in names_of}) == names
        assert all("self_attention" in name for name in names_of)


def test_learned_positions_of_attention_reach_as_far_as_one_likes():
    """Nothing but a learned table limits the length."""
    for positions in ("relative", "alibi", "shaw", "rotary", "none"):
        config = dg.TransformerConfig.tiny(vocab_size=20, max_length=4, positions=positions)
        assert dg.Transformer(config).logits([[5] * 150], [[6] * 90]).shape == (90, 20)


@pytest.mark.parametrize("change", [{"kv_heads": 2}, {"positions": "alibi"}, {"window": 3}], ids=str)
def test_what_torch_does_not_have_is_refused(change):
    config = dg.TransformerConfig.tiny(vocab_size=20, final_norm=True, **change)
    with pytest.raises(ValueError, match=f"to_torch_state_dict: config.{next(iter(change))} must be "):
        dg.interop.to_torch_state_dict(dg.Transformer(config))
