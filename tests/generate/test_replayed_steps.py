"""Native steps of a search: the bits of the eager model, and the logits of the plain model without a cache."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core, lora
from dragoman.generate import steps
from dragoman.generate.recorded import replayed_steps
from dragoman.models.decoder import DecoderConfig, TextDecoder
from dragoman.nn.kv_cache import cache_dtype

SIZES = {"vocab_size": 23, "d_model": 16, "num_heads": 2, "d_ff": 24}
VARIANTS = [
    {},
    {"positions": "learned", "norm_first": True},
    {"positions": "rotary", "kv_heads": 1, "qk_norm": "rms"},
    {"positions": "relative"},
    {"positions": "alibi", "window": 3},
    {"positions": "shaw", "gated": True, "norm": "rms"},
]


def translator(**options):
    dg.manual_seed(5)
    depth = {"num_encoder_layers": 1, "num_decoder_layers": 2}
    return dg.Transformer(dg.TransformerConfig(**{**SIZES, **depth, **options}))


def decoder(**options):
    dg.manual_seed(5)
    return TextDecoder(DecoderConfig(**{**SIZES, "num_layers": 2, **options}))


class Rows:
    """Rows that come and go, beside what the model says of each without a cache."""

    def __init__(self, model, native=None):
        self.model = model
        self.steps = native or replayed_steps(model)
        assert self.steps is not None
        self.rows = []  # (source, text) of each
        self.tolerance = 0.1 if cache_dtype(model) == "bfloat16" else 2e-5

    def add(self, *entries):
        logits = self.steps.add([_core.Entry(source, text) for source, text in entries])
        self.check(logits, entries)
        self.rows += entries

    def next(self, ids, parents):
        logits = self.steps.next(ids, parents)
        self.rows = [(self.rows[p][0], [*self.rows[p][1], i]) for i, p in zip(ids, parents, strict=True)]
        self.check(logits, self.rows)

    def check(self, logits, rows):
        logits = logits.numpy()
        assert len(logits) == len(rows)
        for actual, (source, text) in zip(logits, rows, strict=True):
            whole = self.model.logits([source], [text]) if hasattr(self.model, "encode") else self.model.logits([text])
            np.testing.assert_allclose(actual, whole[-1], rtol=0, atol=self.tolerance)


def come_and_go(rows, sources):
    """Joins and leaves in odd orders: beams that grow and shrink, a batch that ends, rows in another order."""
    a, b, c, d = sources
    rows.add((a, [1]), (b, [1, 9, 8]))
    rows.next([4, 5], [0, 1])
    rows.next([6, 7, 8, 9], [1, 0, 1, 0])
    rows.add((c, [2, 2]))
    rows.next([3, 3, 4, 5, 6], [4, 2, 2, 0, 3])
    rows.next([7, 8], [3, 0])
    rows.add((d, [1]), (a, [5]), (b, [1, 2]))
    rows.next([3, 4, 5], [4, 3, 1])
    rows.add()
    rows.next([3, 4, 5], [0, 1, 2])
    rows.next([], [])
    rows.add((c, [3]))
    for token in range(40):
        rows.next([token % 20 + 2], [0])


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_rows_that_join_and_leave_are_those_of_the_uncached_model(options):
    come_and_go(Rows(translator(**options)), [[4, 5, 6], [7], [], [8, 9, 10, 11, 12]])
    come_and_go(Rows(decoder(**options)), [[]] * 4)


def test_the_bits_are_those_of_eager_steps():
    for model, entries in (
        (translator(), [_core.Entry([4, 5, 6], [1]), _core.Entry([7], [1, 5]), _core.Entry([], [1])]),
        (decoder(), [_core.Entry([], [4, 5, 6]), _core.Entry([], [7])]),
    ):
        with model.inference():
            native, eager = steps.steps_of(model), _core.PythonSteps(steps.EagerSteps(model))
            assert isinstance(native, _core.ReplayedSteps)
            with dg.nn.record_attention():  # which asks for eager steps
                assert isinstance(steps.steps_of(model), _core.PythonSteps)
            np.testing.assert_array_equal(native.add(entries).numpy(), eager.add(entries).numpy())
            for ids, parents in ([4, 5, 6], [0, 0, 1]), ([7, 8, 9], [0, 1, 2]), ([3], [2]), ([], []):
                rows = native.next(ids, parents).numpy(), eager.next(ids, parents).numpy()
                assert len(rows[0]) == len(rows[1]) == len(ids)
                if ids:
                    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_texts_grow_beyond_the_recorded_tables(positions):
    """Tables are constants of the Programs, which are recorded again: for the source, for a prefix, for a step."""
    rows = Rows(translator(positions=positions, max_length=8))
    rows.add(([4] * 7, [1]))
    rows.add(([4] * 130, [1]))
    for token in range(10):
        rows.next([token + 4, 5], [0, 1])
    rows.add(([5], [6] * 70))
    rows.next([1, 2, 3], [1, 0, 2])


def test_a_learned_table_ends():
    model = translator(positions="learned", max_length=13)
    rows = Rows(model)
    rows.add(([4] * 13, [1]))
    for _ in range(12):
        rows.next([4], [0])
    with pytest.raises(ValueError, match="13 tokens, got 14"):
        rows.next([4], [0])
    with pytest.raises(ValueError, match="13 tokens, got 14"):
        rows.add(([4] * 14, [1]))
    tiny = translator(positions="learned", max_length=2)  # shorter than the examples of a recording
    assert replayed_steps(tiny) is None
    assert len(dg.generate.generate(tiny, [[4]], beam=1)) == 1


def test_programs_follow_changes_of_the_model():
    model = translator()
    assert replayed_steps(model) is not None
    weight = model.decoder.layers[1].feed_forward.linear1.weight
    weight.copy_(weight.numpy() * 2)
    Rows(model).add(([4, 5], [1]))
    model.decoder.layers[0].self_attention.window = 1
    rows = Rows(model)
    rows.add(([4, 5], [1, 2, 3, 4]))
    rows.next([5], [0])
    lora.add(model, name="a", rank=2)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        if not parameter.numpy().any():
            parameter.copy_(rng.standard_normal(parameter.shape))
    for name in ("a", None):
        with lora.using(model, name):
            Rows(model).add(([4, 5], [1, 2]))
    with lora.using(model, ["a", None]):
        assert replayed_steps(model) is None  # each sentence has its own


@pytest.mark.parametrize("dtype", [pytest.param("int8", marks=pytest.mark.cpu), "bfloat16", "float32"])
def test_frozen_models_decode_natively(dtype):
    for model, sources in (translator(), [[4, 5, 6], [7], [], [8, 9, 10, 11, 12]]), (decoder(), [[]] * 4):
        come_and_go(Rows(model.freeze(dtype)), sources)


class Shouting(dg.nn.Module):
    """A translator of a user's own: other layers, other arguments, a look at the memory in each step if told so."""

    def __init__(self, looks=False):
        dg.manual_seed(7)
        self.config = dg.TransformerConfig(**SIZES, num_encoder_layers=1, num_decoder_layers=1)
        self.embedding = dg.nn.Embedding(23, 16)
        self.attention = dg.nn.MultiHeadAttention(16, 4)
        self.read = dg.nn.MultiHeadAttention(16, 2)
        self.out = dg.nn.Linear(16, 23)
        self.looks = looks

    def pack_source(self, op, batch):
        return np.array([i for ids in batch for i in ids], np.int32), dg.Sequences([len(ids) for ids in batch])

    def encode(self, ids, sequences):
        return dg.functional.tanh(self.embedding(ids, sequences))

    def decode(self, ids, sequences, memory, src_sequences, cache=None):
        if cache is not None:
            cache.extend(sequences)
        x = self.embedding(ids, sequences)
        x = x + self.attention(x, sequences, causal=True, cache=cache)
        x = x + self.read(x, sequences, memory, src_sequences, cache=cache) * 3.0
        return x + memory.mean() if self.looks else x

    def project(self, hidden, sequences=None):
        return self.out(dg.functional.relu(hidden), sequences)

    def logits(self, src_batch, tgt_batch):
        ids, sequences = self.pack_source("logits", src_batch)
        texts, tgt_sequences = self.pack_source("logits", tgt_batch)
        with dg.no_grad():
            hidden = self.decode(texts, tgt_sequences, self.encode(ids, sequences), sequences)
            return self.project(hidden).numpy()


def test_a_module_of_a_users_own_decodes_natively():
    come_and_go(Rows(Shouting()), [[4, 5, 6], [7], [9], [8, 9, 10, 11, 12]])


def test_what_cannot_be_recorded_runs_eagerly():
    model = Shouting(looks=True)
    with pytest.warns(RuntimeWarning, match=r"^Shouting decodes slowly: its steps cannot be recorded \(record: "):
        assert replayed_steps(model) is None
    assert len(dg.generate.generate(model, [[4, 5]], beam=2, max_length=3)) == 1


def test_memory_is_flat_over_many_requests():
    def serve():
        native = replayed_steps(model)
        native.add([_core.Entry([4] * 9, [1]), _core.Entry([5, 6], [1, 2])])
        native.next([4, 5], [0, 1])
        for request in range(30):
            native.add([_core.Entry([4] * (request % 7), [1])])
            native.next([4, 5, 6, 7], [2, 2, 1, 0])
            native.next([4, 5], [0, 3])  # the oldest stays, and one of the newest
        return native

    model = translator()
    serve()
    before = dg.memory_stats()["allocated"]
    held = [dg.memory_stats()["allocated"] for _ in range(3) if serve()]
    assert held == [before] * 3
    native, sizes = replayed_steps(model), []
    native.add([_core.Entry([4] * 5, [1])])
    for _ in range(4):  # one row stays, others come and go
        for _ in range(20):
            native.add([_core.Entry([5] * 9, [1])])
            native.next([4], [0])
        sizes.append(dg.memory_stats()["allocated"])
    assert sizes[3] <= sizes[0] * 1.5 + 2**16


def test_bad_entries_and_parents_are_named():
    native = replayed_steps(translator())
    with pytest.raises(ValueError, match="add: prefix must hold at least one id, got none"):
        native.add([_core.Entry([4], [])])
    native.add([_core.Entry([4], [1])])
    with pytest.raises(ValueError, match=r"next: parents must lie in \[0, 1\), got 1"):
        native.next([4], [1])
    with pytest.raises(ValueError, match="next: ids must have a parent each, got 1 ids and 2 parents"):
        native.next([4], [0, 0])
    with pytest.raises(ValueError, match="embedding: ids must lie in"):
        native.next([23], [0])
    native = replayed_steps(decoder())
    with pytest.raises(ValueError, match="add: source must be empty for a model without an encoder, got 1 ids"):
        native.add([_core.Entry([4], [1])])
