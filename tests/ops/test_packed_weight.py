"""Packed copies of weights for inference: the same bits as without, never of old values, no memory in training."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import _core
from dragoman.generate import generate
from dragoman.nn import Linear, Parameter
from dragoman.nn.weight import packing_at_once
from dragoman.optim import AdamW
from dragoman.train.averaging import ExponentialAverage

pytestmark = pytest.mark.cpu  # the only backend that keeps packed weights

DTYPES = ["float32", "bfloat16"]


@pytest.fixture
def layer():
    return Linear(37, 45)


def check_fresh(layer, rng):
    """Under no_grad, twice, the result equals that of a plain tensor with the same values; the second used packed
    weights."""
    x = dg.tensor(rng.standard_normal((5, layer.weight.shape[1])).astype(np.float32))
    values = dg.tensor(layer.weight.numpy().copy())
    with dg.no_grad():
        expected = dg.functional.linear(x, values, layer.bias).numpy()
        for _ in range(2):
            np.testing.assert_array_equal(layer(x).numpy(), expected)
        assert layer.weight.packed("float32") is not None


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "in_features", "out_features"),
    [
        *[(1, 1, 1), (1, 512, 530), (2, 256, 33), (5, 257, 31), (14, 511, 64), (15, 513, 100), (131, 1023, 97)],
        *[(3, 2050, 1000), (7, 514, 1), (64, 40, 2100), (0, 5, 3), (3, 5, 0), (3, 0, 5)],
    ],
)
def test_bits_are_those_of_the_plain_weight(rng, rows, in_features, out_features, dtype, threads):
    dg.set_num_threads(threads)
    shapes = [(rows + 2, in_features), (out_features, in_features)]
    x, weight = (dg.tensor(rng.standard_normal(shape), dtype=dtype).data for shape in shapes)
    bias = dg.tensor(rng.standard_normal(out_features)).data
    sequences = dg.Sequences([rows], capacity=rows + 2)
    packed = _core.pack_weight(weight)
    for activation in ("none", "gelu"):
        plain = _core.linear_forward(x, weight, bias, activation, _core.Dropout(), sequences)
        other = _core.linear_forward(x, weight, bias, activation, _core.Dropout(), sequences, packed)
        for a, b in zip(plain, other, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("dtype", [*DTYPES, "int8"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 5), (64, 3), (200, 700), (257, 1025), (128, 0), (1100, 1024)])
def test_rows_packed_in_parts(rng, rows, columns, dtype):
    """The bytes are those of a whole weight. The largest is a fresh block of several huge pages."""
    values = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    weight = _core.Tensor.from_numpy(values, "int8") if dtype == "int8" else dg.tensor(values, dtype=dtype).data
    whole = _core.pack_weight(weight)
    size = _core.packed_weight_size((rows, columns), dtype)
    if whole is None:
        assert size == 0
        return
    for count in (64, 128):
        packed = _core.Tensor.empty([size], "uint8")
        for begin in range(0, rows, count):
            _core.pack_rows(weight.narrow(begin, min(count, rows - begin)), begin, (rows, columns), packed)
        np.testing.assert_array_equal(packed.numpy(), whole.numpy())


def test_packing_keeps_what_lies_beside(rng):
    """A place in a block, whose first and last huge pages hold other values too."""
    weight = dg.tensor(rng.standard_normal((1300, 1024))).data
    whole = _core.pack_weight(weight)
    block = _core.Tensor.from_numpy(np.full(whole.numel + 384, 7, np.uint8), "uint8")
    _core.pack_weight(weight, block.slice(128, [whole.numel]))
    np.testing.assert_array_equal(block.numpy()[128:-256], whole.numpy())
    assert (block.numpy()[:128] == 7).all()
    assert (block.numpy()[-256:] == 7).all()


def test_errors_of_parts():
    weight, shape = _core.Tensor.zeros([100, 8]), (200, 8)
    packed = _core.Tensor.empty([_core.packed_weight_size(shape, "float32")], "uint8")
    multiples = "pack_rows: first and the number of rows must be multiples of 64 up to 200"
    for first, rows in [(0, 100), (32, 64), (-64, 64), (192, 64), (128, 71)]:
        with pytest.raises(ValueError, match=f"{multiples}, got {first} and {rows}"):
            _core.pack_rows(weight.narrow(0, rows), first, shape, packed)
    with pytest.raises(ValueError, match=r"pack_rows: rows must have shape \(64, 8\), got \(64, 4\)"):
        _core.pack_rows(_core.Tensor.zeros([64, 4]), 0, shape, packed)
    with pytest.raises(ValueError, match="pack_rows: packed must have shape"):
        _core.pack_rows(weight.narrow(0, 64), 0, (300, 8), packed)
    with pytest.raises(TypeError, match="pack_rows: rows must be float32, bfloat16 or int8, got uint8"):
        _core.pack_rows(_core.Tensor.zeros([64, 8], "uint8"), 0, shape, packed)


def test_no_bytes_are_no_packed_copy():
    assert _core.pack_weight(_core.Tensor.zeros([0, 4])) is None


def test_the_packed_copy_is_what_is_read(rng):
    """Otherwise the comparison above would compare nothing."""
    x, weight = (dg.tensor(rng.standard_normal((8, 8))).data for _ in range(2))
    packed = _core.pack_weight(dg.tensor(np.zeros((8, 8))).data)
    assert not _core.linear_forward(x, weight, None, "none", _core.Dropout(), None, packed)[0].numpy().any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_parameter_is_packed_once(rng, dtype):
    """A Parameter is packed only off the tape, from the second use of its values on, a plain Tensor never."""
    layer = Linear(5, 3)
    x = dg.tensor(rng.standard_normal((2, 5)), dtype=dtype)
    layer(x)
    with dg.no_grad():
        assert dg.tensor(np.ones((3, 5))).packed(dtype) is None
        before = dg.memory_stats()["allocated"]
        y = layer(x)
        assert dg.memory_stats()["allocated"] <= before + 1024  # y alone
        del y
        first = layer.weight.packed(dtype)
        assert first is not None
        for _ in range(2):
            layer(x)
            assert layer.weight.packed(dtype) is first
    assert layer.weight.packed(dtype) is None


def test_never_stale(rng, layer):
    shape = layer.weight.shape

    def new():
        return rng.standard_normal(shape).astype(np.float32)

    writes = {
        "copy_": lambda: layer.weight.copy_(new()),
        "load_state_dict": lambda: layer.load_state_dict(layer.state_dict() | {"weight": new()}),
        "detach": lambda: layer.weight.detach().copy_(new()),
        "reshape": lambda: layer.weight.detach().reshape(-1).copy_(new().ravel()),
        "data": lambda: layer.weight.data.copy_(new()),
        "zero_": lambda: layer.weight.data.zero_(),
        "another tensor": lambda: setattr(layer.weight, "data", dg.tensor(new()).data.clone()),
    }
    check_fresh(layer, rng)
    for write in writes.values():
        before = layer.weight.numpy().copy()
        write()
        assert (layer.weight.numpy() != before).any()
        check_fresh(layer, rng)


@pytest.mark.parametrize("compute_dtype", DTYPES)
def test_never_stale_in_training(rng, layer, compute_dtype):
    """The arena of AdamW, its steps, and a moving average that is swapped in and out."""
    layer.compute_dtype = compute_dtype
    check_fresh(layer, rng)
    optimizer = AdamW(layer, lr=0.1)
    average = ExponentialAverage(layer, 0.9)
    for count in range(3):
        check_fresh(layer, rng)
        before = layer.weight.numpy().copy()
        x = dg.tensor(rng.standard_normal((4, 37)), dtype=compute_dtype)
        dg.functional.cross_entropy(layer(x), [0, 9, 44, 2]).backward()
        optimizer.step()
        assert (layer.weight.numpy() != before).all()
        check_fresh(layer, rng)
        average.update(count)
        own = layer.state_dict()
        layer.load_state_dict(average.state_dict(copy=False))
        check_fresh(layer, rng)
        layer.load_state_dict(own)
        check_fresh(layer, rng)


def test_memory_that_others_may_write_is_not_kept_packed(rng, layer):
    check_fresh(layer, rng)
    layer.weight.__dlpack__(copy=True)
    check_fresh(layer, rng)
    shared = dg.from_dlpack(layer.weight)
    assert shared.data.version == 0
    with dg.no_grad():
        assert layer.weight.packed("float32") is None
        shared.copy_(np.zeros(shared.shape))
        assert not layer(dg.tensor(np.ones((2, 37)))).numpy().any()


def test_a_program_follows_the_weight(rng, layer):
    x = dg.tensor(rng.standard_normal((4, 37)))
    with dg.no_grad():
        layer(x)
        recorder = _core.Recorder()
        try:
            program = recorder.finish([x.data], [layer(x).data])
        finally:
            recorder.stop()
        layer.weight.copy_(rng.standard_normal(layer.weight.shape))
        np.testing.assert_array_equal(program.replay([x.data])[0].numpy(), layer(x).numpy())


def test_packing_at_once(layer):
    with dg.no_grad():
        with packing_at_once():
            packed = layer.weight.packed("float32")
        assert packed is not None
        assert layer.weight.packed("float32") is packed
        layer.weight.copy_(np.ones(layer.weight.shape))
        assert layer.weight.packed("float32") is None


def test_training_gives_the_memory_back():
    config = dg.TransformerConfig(
        vocab_size=301, d_model=64, num_heads=4, d_ff=128, num_encoder_layers=1, num_decoder_layers=1
    )
    model = dg.Transformer(config)
    batch = [[5, 6, 7]], [[8, 9]]
    loss = model.loss(*batch)
    held = dg.memory_stats()["allocated"]
    weights = 4 * sum(p.size for p in model.parameters() if len(p.shape) == 2)
    generate(model, batch[0])
    kept = dg.memory_stats()["allocated"] - held
    assert 0.9 * weights < kept < 1.5 * weights
    again = model.loss(*batch)
    del loss
    assert dg.memory_stats()["allocated"] <= held
    del again


def test_errors():
    x, weight = dg.tensor(np.ones((2, 3))).data, dg.tensor(np.ones((5, 3))).data
    for wrong, error, message in [
        (_core.Tensor.zeros([5, 3], "uint8"), ValueError, r"linear: packed must have shape \(\d+,\), got \(5, 3\)"),
        (_core.Tensor.zeros([32, 32], "bfloat16"), TypeError, "linear: packed must be uint8, got bfloat16"),
    ]:
        with pytest.raises(error, match=message):
            _core.linear_forward(x, weight, None, "none", _core.Dropout(), None, wrong)
    with pytest.raises(TypeError, match="pack_weight: weight must be float32, bfloat16 or int8, got uint8"):
        _core.pack_weight(_core.Tensor.zeros([2, 2], "uint8"))
    with pytest.raises(ValueError, match=r"pack_weight: weight must have 2 dimensions, got shape \(4,\)"):
        _core.pack_weight(_core.Tensor.zeros([4]))
    with dg.no_grad(), pytest.raises(ValueError, match="linear: weight must have 2 dimensions"):
        dg.functional.linear(dg.tensor(np.ones((2, 3))), Parameter(np.ones(3)))
