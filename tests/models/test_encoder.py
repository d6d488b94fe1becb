"""TextEncoder: every head against float64 NumPy, and its gradients against finite differences."""

from itertools import pairwise

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import program
from dragoman.models import EncoderConfig, TextEncoder
from encoder_reference import EncoderReference, pooled, types_of
from gradcheck import numerical_gradient

BATCH = [[1, 5, 6, 7, 2], [1, 2], [1, 8, 4, 2]]
WORDS = [[2, 1], [], [1, 1]]


def model_of(seed=0, **fields):
    sizes = {"vocab_size": 10, "d_model": 6, "num_heads": 2, "d_ff": 8, "num_layers": 2}
    rates = {"dropout": 0.0, "embedding_dropout": 0.0}
    dg.manual_seed(seed)
    return TextEncoder(EncoderConfig(**(sizes | rates | fields)))


def logits_of(truth, head, kind, words=None):
    if head == "classify":
        return truth.labels(np.array([pooled(truth.text(ids), kind) for ids in BATCH]))
    rows = [truth.text(ids) for ids in BATCH]
    if words is not None:
        ends = [np.cumsum([1, *counts]) for counts in words]
        rows = [
            pooled(each[first:last], kind)[None]
            for each, edges in zip(rows, ends, strict=True)
            for first, last in pairwise(edges)
        ]
    rows = np.concatenate(rows)
    return truth.masked(rows) if head == "mlm" else truth.labels(rows)


CASES = [
    ({"head": "classify", "labels": ["a", "b", "c"], "pooling": "mean"}, None, [2, 0, 1]),
    ({"head": "classify", "labels": ["a", "b"], "pooling": "max", "norm_first": True}, None, [1, 0, 1]),
    ({"head": "classify", "labels": ["a", "b"], "pooling": "first", "positions": "learned"}, None, [1, 0, 1]),
    ({"head": "classify", "labels": ["a", "b"], "pooling": "last", "scale_embeddings": False}, None, [1, -1, 1]),
    (
        {"head": "classify", "labels": ["a", "b"], "pooling": "first", "positions": "learned", "pooler": True}
        | {"embedding_norm": True, "scale_embeddings": False, "activation": "gelu", "token_types": 2},
        None,
        [1, 0, 1],
    ),  # BERT
    ({"head": "tag", "labels": ["x", "y", "z"]}, None, [[-1, 0, 1, 2, -1], [-1, -1], [0, 0, 1, 2]]),
    ({"head": "tag", "labels": ["x", "y", "z"], "pooling": "first"}, WORDS, [[2, 1], [], [0, 2]]),
    ({"head": "tag", "labels": ["x", "y", "z"], "pooling": "mean"}, WORDS, [[2, 1], [], [0, -1]]),
    ({"head": "classify", "labels": ["a", "b"], "pooler": True, "head_activation": "relu"}, None, [1, 0, 1]),
    ({"head": "mlm", "head_activation": "gelu_tanh", "token_types": 3}, None, [[-1, 5, -1, 9, -1], [-1, -1], [1] * 4]),
    ({"head": "mlm", "tie_embeddings": False}, None, [[-1, 5, -1, 9, -1], [-1, -1], [-1, -1, 4, -1]]),
    ({"head": "classify", "labels": ["a", "b"], "pooling": "mean_sqrt"}, None, [1, 0, 1]),
    ({"head": "classify", "labels": ["a", "b"], "pooling": "weighted_mean"}, None, [1, 0, 1]),
    ({"head": "mlm", "mask_id": 9, "activation": "gelu"}, None, [[-1, 5, -1, 9, -1], [-1, -1], [-1, -1, 4, -1]]),
]


@pytest.mark.parametrize(("fields", "words", "targets"), CASES, ids=str)
def test_logits_loss_and_gradients_are_those_of_the_formulas(fields, words, targets):
    model, kind = model_of(**fields), fields.get("pooling", "mean")
    truth, head = EncoderReference(model), fields["head"]
    flat = np.array([id for each in targets for id in each]) if isinstance(targets[0], list) else np.array(targets)

    def loss():
        return reference.cross_entropy(logits_of(truth, head, kind, words), flat, 0.1)

    types = None if model.config.token_types is None else [types_of(ids, model.config) for ids in BATCH]
    actual = model.logits(BATCH, words, types=types)
    np.testing.assert_allclose(actual, logits_of(truth, head, kind, words), atol=2e-5)
    result = model.loss(BATCH, targets, 0.1, words=words, types=types)
    assert result.item() == pytest.approx(loss(), abs=1e-5)
    result.backward()
    for name, parameter in model.named_parameters():
        expected = numerical_gradient(loss, truth.state[name])
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=2e-5, err_msg=name)


def test_types_of_tokens(tmp_path, device):
    """All 0 where none are given; with dropout and without a norm; recorded; saved; refused where they do not fit."""
    model = model_of(token_types=2, embedding_dropout=0.5)
    zeros = [[0] * len(ids) for ids in BATCH]
    np.testing.assert_array_equal(model.logits(BATCH), model.logits(BATCH, types=zeros))
    types = [[i % 2 for i in range(len(ids))] for ids in BATCH]
    other = model.logits(BATCH, types=types)
    assert (other != model.logits(BATCH)).any() and (model.vectors(BATCH, types) != model.vectors(BATCH)).any()
    dropped = model(BATCH, types=types).numpy()
    assert (dropped != model(BATCH, types=types).numpy()).any()
    model.save(tmp_path)
    np.testing.assert_array_equal(dg.load(tmp_path).to(device).logits(BATCH, types=types), other)

    def inputs(lengths):
        draw = np.random.default_rng(len(lengths))
        ids, kinds = (dg.tensor(draw.integers(0, n, sum(lengths)).astype(np.int32)) for n in (10, 2))
        return ids, dg.Sequences(lengths), kinds

    with model.inference():
        recorded = program.record(model.encode, inputs([3, 2]), inputs([1, 4, 2]))
        np.testing.assert_array_equal(recorded(*inputs([5]))[0].numpy(), model.encode(*inputs([5])).numpy())
    with pytest.raises(ValueError, match=r"logits: types must be lists of \[5, 2, 4\] types, got \[5, 2, 3\]"):
        model.logits(BATCH, types=[*types[:2], [0] * 3])
    with pytest.raises(ValueError, match=r"loss: types\[0\]\[1\] must lie in \[0, 2\)"):
        model_of(head="mlm", token_types=2).loss(BATCH, BATCH, types=[[0, 2, 0, 0, 0], *types[1:]])
    with pytest.raises(ValueError, match="vectors: types must be None without token_types"):
        model_of().vectors(BATCH, types)
    with pytest.raises(ValueError, match="Embedding: types must be None without token_types"):
        model_of().encode([1, 2], dg.Sequences([2]), [0, 0])


@pytest.mark.parametrize("kind", ["mean", "max", "first", "last", "mean_sqrt", "weighted_mean"])
@pytest.mark.parametrize("normalise", [True, False])
def test_vectors(kind, normalise):
    model = model_of(pooling=kind, normalise=normalise)
    expected = np.array([pooled(EncoderReference(model).text(ids), kind) for ids in BATCH])
    if normalise:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.vectors(BATCH), expected, atol=1e-5)
    assert model.vectors([]).shape == (0, 6)
    assert model.vectors([[]]).tolist() == [[0.0] * 6]


def test_vectors_of_several_poolings_through_projections(tmp_path, device):
    projections = [{"features": 7, "activation": "tanh"}, {"features": 4, "bias": False}]
    model = model_of(pooling=["max", "mean", "last"], projections=projections, normalise=True).eval()
    model.projections[0].bias.copy_(np.linspace(-1, 1, 7, dtype=np.float32))
    truth = EncoderReference(model)
    rows = [truth.text(ids) for ids in BATCH]
    x = np.array([np.concatenate([pooled(each, kind) for kind in ("max", "mean", "last")]) for each in rows])
    x = np.tanh(truth.linear(x, "projections.0")) @ truth.state["projections.1.weight"].T
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(model.vectors(BATCH), expected, atol=1e-5)
    assert model.config.vector_size == 4 and model_of(pooling=["max", "mean"]).config.vector_size == 12
    model.save(tmp_path)
    again = dg.load(tmp_path).to(device)
    assert again.config == model.config and again.config.pooling == ("max", "mean", "last")
    np.testing.assert_array_equal(again.vectors(BATCH), model.vectors(BATCH))


@pytest.mark.parametrize("kind", ["several", "numbers"])
def test_losses_of_several_labels_and_of_numbers(kind):
    model = model_of(head="classify", labels=["a", "b"], label_kind=kind)
    truth, targets = EncoderReference(model), np.array([[1, 0], [0.25, 0], [1, 1]])

    def loss():
        scores = logits_of(truth, "classify", "mean")
        if kind == "numbers":
            return np.mean((scores - targets) ** 2)
        chances = 1 / (1 + np.exp(-scores))
        return -np.mean(targets * np.log(chances) + (1 - targets) * np.log(1 - chances))

    result = model.loss(BATCH, targets)
    assert result.item() == pytest.approx(loss(), abs=1e-5)
    assert model.loss(BATCH, targets, num_targets=12).item() == pytest.approx(loss() / 2, abs=1e-5)
    result.backward()
    for name, parameter in model.named_parameters():
        expected = numerical_gradient(loss, truth.state[name])
        np.testing.assert_allclose(parameter.grad.numpy(), expected, atol=2e-5, err_msg=name)
    assert model.memory_plan(64)["activations"] > 0
    with pytest.raises(ValueError, match=r"loss: targets must have shape \(3, 2\), got \(3,\)"):
        model.loss(BATCH, [1, 0, 1])
    model.head.output.bias.copy_(np.array([1e4, -1e4], np.float32))
    assert model.loss(BATCH, np.array([[1, 0]] * 3)).item() < 1e9


def test_fewer_tokens_than_positions():
    """Texts are cut to max_length, and the table has rows for more."""
    model = model_of(positions="learned", max_length=4, position_rows=9)
    assert model.positions.weight.shape == (9, 6)
    assert model.encode_ids([[1] * 9]).shape == (9, 6)
    with pytest.raises(ValueError, match="EncoderConfig: position_rows must be None or at least 4, got 3"):
        model_of(max_length=4, position_rows=3)


def test_without_a_head_the_output_is_rows():
    model = model_of()
    expected = np.concatenate([EncoderReference(model).text(ids) for ids in BATCH])
    np.testing.assert_allclose(model.logits(BATCH), expected, atol=1e-5)
    np.testing.assert_array_equal(model.encode_ids(BATCH), model.logits(BATCH))
    assert model_of(head="mlm").encode_ids(BATCH).shape == (11, 6)
    with pytest.raises(ValueError, match='loss: head must be "classify", "tag" or "mlm", got "none"'):
        model.loss(BATCH, [0, 0, 0])


def test_a_text_does_not_depend_on_the_others():
    model = model_of(head="classify", labels=["a", "b"])
    together = model.logits(BATCH)
    for i, ids in enumerate(BATCH):
        np.testing.assert_array_equal(model.logits([ids])[0], together[i])


def test_chosen_places_alone():
    model = model_of(head="mlm", mask_id=9)
    np.testing.assert_array_equal(model.logits(BATCH, places=[7, 2, 2]), model.logits(BATCH)[[7, 2, 2]])


def test_the_mask_is_dropped_out_in_training_alone_and_in_bfloat16(rng):
    model = model_of(head="classify", labels=["a", "b"], dropout=0.3)
    assert model(BATCH).numpy().tolist() != model(BATCH).numpy().tolist()
    exact = model.logits(BATCH)
    low = TextEncoder(model.config, compute_dtype="bfloat16")
    low.load_state_dict(model.state_dict())
    assert low(BATCH).dtype == "bfloat16"
    np.testing.assert_array_equal(low.logits(BATCH), exact)
    low.loss(BATCH, [0, 1, 0]).backward()


def test_attention_weights():
    weights = model_of(head="tag", labels=["a"]).attention_weights([1, 5, 6, 2])
    assert [each.shape for each in weights["encoder"]] == [(2, 4, 4)] * 2
    np.testing.assert_allclose(weights["encoder"][0].sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("head", ["classify", "tag", "mlm"])
def test_memory_plan(head):
    model = model_of(head=head, labels=[] if head == "mlm" else ["a", "b"])
    plan = model.memory_plan(200)
    assert plan["parameters"] == sum(-(-p.size // 16) * 64 for p in model.parameters())
    assert plan["activations"] > 200 * 6 * 4


def test_config(tmp_path, device):
    model = model_of(head="classify", labels=["나쁨", "좋음"], pooling="max").eval()
    model.save(tmp_path)
    again = dg.load(tmp_path).to(device)
    assert isinstance(again, TextEncoder)
    assert again.config == model.config
    assert again.config.labels == ("나쁨", "좋음")
    np.testing.assert_array_equal(again.logits(BATCH), model.logits(BATCH))
    assert EncoderConfig.tiny().num_layers == 4
    assert EncoderConfig.base(d_model=256).d_model == 256


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "classify"}, r"labels must be a list of at least one text, all different, got \(\)"),
        ({"head": "tag", "labels": ["a", "a"]}, "labels must be a list of at least one text, all different"),
        ({"head": "tag", "labels": "ab"}, "labels must be a list of at least one text, all different, got 'ab'"),
        ({"labels": ["a"]}, "labels must be empty for this head"),
        ({"head": "regress"}, "head must be one of none, classify, tag, mlm, got 'regress'"),
        ({"pooling": "sum"}, "pooling must be one of mean, max, first, last"),
        ({"pooling": []}, r"pooling must be a list of mean, max, first, last, mean_sqrt, weighted_mean, got \[\]"),
        ({"pooling": ["max", "mean"], "head": "tag", "labels": ["a"]}, 'pooling must be one kind for the head "tag"'),
        ({"projections": [{"size": 3}]}, 'projections must be a list of dicts with "features"'),
        ({"projections": [{"features": 3, "act": "tanh"}]}, "projections must hold only fields in which it may differ"),
        ({"projections": [{"features": 0}]}, "projections must be dicts of an int of at least 1"),
        ({"prompts": {"query": 3}}, "prompts must be None or a dict of texts by name"),
        (
            {"prompts": {"query": "q: "}, "default_prompt": "title"},
            "default_prompt must be None or the name of a prompt",
        ),
        ({"label_kind": "two"}, "label_kind must be one of one, several, numbers, got 'two'"),
        ({"mask_id": 10}, r"mask_id must be None or an int in \[0, 10\), got 10"),
        ({"pooler": True, "head": "mlm"}, 'pooler must be False for the head "mlm"'),
        ({"num_layers": 0}, "num_layers must be an int of at least 1"),
    ],
    ids=str,
)
def test_bad_configs_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"EncoderConfig: {message}"):
        model_of(**fields)


def test_bad_batches_are_refused():
    tagger = model_of(head="tag", labels=["a", "b"])
    with pytest.raises(ValueError, match=r"loss: targets must be 2, as the rows of the batch, got 1"):
        tagger.loss([[1, 2]], [[0]])
    with pytest.raises(ValueError, match=r"logits: words must have \[3\] tokens with one on either side, got \[4\]"):
        tagger.logits([[1, 5, 2]], [[2]])
    with pytest.raises(
        ValueError, match=r"logits: batch\[0\]\[1\] must lie in \[0, 10\), the ids of the vocabulary, got 10"
    ):
        tagger.logits([[1, 10]])
    with pytest.raises(ValueError, match='words must be None but for the head "tag", got them for "mlm"'):
        model_of(head="mlm", mask_id=9).logits([[1, 5, 2]], [[1]])
    with pytest.raises(ValueError, match=r"ids must lie in \[0, 2\)|ids must lie in"):
        model_of(head="classify", labels=["a", "b"]).loss([[1, 2]], [2])
