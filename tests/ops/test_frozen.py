"""Products and lookups with packed int8, bfloat16 and float32 weights. Those of int8 are the integers of NumPy."""

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core

pytestmark = pytest.mark.cpu

SHAPES = [  # rows, in_features, out_features
    (1, 1, 1),
    (1, 513, 70),
    (2, 65, 31),
    (3, 31, 33),
    (7, 40, 130),
    (14, 64, 64),
    (15, 300, 31),
    (33, 31, 65),
    (70, 129, 45),
    (0, 4, 3),
]


def core(array):
    return dg.tensor(array).data


def quantized(x):
    """The uint8 rows less 128, as int64, and their scales: the definition, step by step in float32."""
    largest = np.abs(x).max(axis=1, initial=0).astype(np.float32)
    tiny = largest < np.float32(1e-30)
    factor = np.where(tiny, 0, np.float32(127) / np.where(tiny, 1, largest)).astype(np.float32)
    scales = np.where(tiny, 0, largest / np.float32(127)).astype(np.float32)
    return np.rint(x * factor[:, None]).astype(np.int64), scales


def int8_linear(x, weight, scales, bias=None, activation="none", sequences=None):
    return _core.frozen_linear(
        core(x),
        _core.pack_weight(core(weight)),
        "int8",
        list(weight.shape),
        core(scales),
        None if bias is None else core(bias),
        activation,
        sequences,
    ).numpy()


def int8_reference(x, weight, scales):
    q, x_scales = quantized(x)
    sums = q @ weight.astype(np.int64).T
    return sums.astype(np.float32) * (scales * x_scales[:, None])


@pytest.mark.parametrize(("rows", "in_features", "out_features"), SHAPES)
def test_int8_products_have_the_bits_of_integers(rng, rows, in_features, out_features):
    """No sum is rounded, so the float32 result is the reference's bit by bit."""
    x = (rng.standard_normal((rows, in_features)) * rng.uniform(0.01, 50, (rows, 1))).astype(np.float32)
    weight = rng.integers(-127, 128, (out_features, in_features), np.int8)
    scales = rng.uniform(0.001, 0.1, out_features).astype(np.float32)
    np.testing.assert_array_equal(int8_linear(x, weight, scales), int8_reference(x, weight, scales))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 0), (0, 4), (5, 31), (7, 513), (33, 64)])
def test_a_weight_is_quantized_by_rows(rng, rows, columns):
    weight = (rng.standard_normal((rows, columns)) * rng.uniform(1e-3, 50, (rows, 1))).astype(np.float32)
    if rows > 2 and columns:
        weight[0], weight[1] = 0, 1e-31
        weight[2, 0] = 3e38
    values, scales = _core.quantize_rows(core(weight))
    expected, steps = quantized(weight)
    np.testing.assert_array_equal(values.numpy(), expected.astype(np.int8))
    np.testing.assert_array_equal(scales.numpy(), steps)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_weight_that_is_not_finite_is_not_quantized(value):
    weight = np.ones((3, 37), np.float32)
    weight[1, 36] = value
    with pytest.raises(ValueError, match="quantize: weight must be finite, got a value that is not"):
        _core.quantize_rows(core(weight))


@pytest.mark.parametrize("value", [127, -127, -128])
@pytest.mark.parametrize("sign", [1, -1])
def test_int8_products_do_not_saturate(value, sign):
    """255 * 127 twice is too large for int16; 65536 of them nearly fill an int32."""
    one = np.ones(33, np.float32)
    for k in (1, 2, 3, 7, 65536):
        weight = np.full((33, k), value, np.int8)
        y = int8_linear(np.full((5, k), sign * 127, np.float32), weight, one)
        np.testing.assert_array_equal(y, np.full((5, 33), np.float32(sign * 127 * value * k)))


def test_rounding_is_to_the_nearest_and_ties_to_even():
    x = np.float32([[127, 0.5, 1.5, 2.5, -0.5, -1.5, 3.4999, -3.5001, -127]])
    weight = np.eye(9, dtype=np.int8)
    y = int8_linear(x, weight, np.ones(9, np.float32))
    np.testing.assert_array_equal(y, [[127, 0, 2, 2, 0, -2, 3, -4, -127]])


def test_rows_of_zeros_denormals_and_values_that_are_not_finite(rng):
    """A row with an infinity or a NaN is a row of NaN, through ReLU, too. The others keep their bits."""
    x = rng.standard_normal((7, 37)).astype(np.float32)
    weight, scales = rng.integers(-127, 128, (40, 37), np.int8), np.full(40, 0.01, np.float32)
    bias = rng.standard_normal(40).astype(np.float32)
    plain = int8_linear(x, weight, scales, bias)
    x[1], x[2] = 0, 1e-40
    x[3, 36], x[4, 0], x[5, 17] = np.inf, -np.inf, np.nan
    for activation in ("none", "relu"):
        y = int8_linear(x, weight, scales, bias, activation)
        expected = np.maximum(plain, 0) if activation == "relu" else plain
        np.testing.assert_array_equal(y[[0, 6]], expected[[0, 6]])
        np.testing.assert_array_equal(y[1], np.maximum(bias, 0) if activation == "relu" else bias)
        np.testing.assert_array_equal(y[2], y[1])
        assert np.isnan(y[3:6]).all()


def test_largest_and_smallest_rows_that_are_quantized():
    x = np.float32([[3.4e38, -1.7e38], [2e-30, -1e-30]])
    y = int8_linear(x, np.eye(2, dtype=np.int8), np.ones(2, np.float32))
    np.testing.assert_allclose(y, x, rtol=0.01)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_bias_and_activation(rng, activation):
    x, bias = rng.standard_normal((5, 40)).astype(np.float32), rng.standard_normal(35).astype(np.float32)
    weight, scales = rng.integers(-127, 128, (35, 40), np.int8), rng.uniform(0.001, 0.01, 35).astype(np.float32)
    before = dg.tensor(int8_reference(x, weight, scales) + bias)
    expected = getattr(dg.functional, activation)(before).numpy()
    np.testing.assert_allclose(int8_linear(x, weight, scales, bias, activation), expected, rtol=1e-5, atol=1e-6)


def test_rows_beyond_the_sequences_are_ignored_and_zero(rng):
    x = rng.standard_normal((6, 20)).astype(np.float32)
    weight, scales = rng.integers(-127, 128, (9, 20), np.int8), np.full(9, 0.01, np.float32)
    x[4:] = np.nan
    y = int8_linear(x, weight, scales, sequences=dg.Sequences([3, 1], capacity=6))
    np.testing.assert_array_equal(y[:4], int8_reference(x[:4], weight, scales))
    assert not y[4:].any()


def test_the_same_bits_for_any_threads_and_any_batch(rng):
    x = rng.standard_normal((131, 520)).astype(np.float32)
    weight, scales = rng.integers(-127, 128, (300, 520), np.int8), np.full(300, 0.01, np.float32)
    bias = rng.standard_normal(300).astype(np.float32)
    dg.set_num_threads(1)
    whole = int8_linear(x, weight, scales, bias, "gelu")
    dg.set_num_threads(3)
    for begin, end in [(0, 131), (0, 1), (3, 20), (130, 131), (40, 110)]:
        np.testing.assert_array_equal(int8_linear(x[begin:end], weight, scales, bias, "gelu"), whole[begin:end])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "in_features", "out_features"), [*SHAPES, (3, 1030, 33)])
def test_packed_floats_give_the_bits_of_the_plain_product(rng, dtype, rows, in_features, out_features):
    """bfloat16: of x rounded to it. The sum is not rounded, so the plain bfloat16 result is the rounded one."""
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    x = rng.standard_normal((rows, in_features)).astype(np.float32)
    weight = rng.standard_normal((out_features, in_features)).astype(kind)
    bias = rng.standard_normal(out_features).astype(np.float32)
    packed = _core.pack_weight(core(weight))
    y = _core.frozen_linear(core(x), packed, dtype, list(weight.shape), None, core(bias), "relu", None).numpy()
    plain, _ = _core.linear_forward(core(x.astype(kind)), core(weight), core(bias), "relu", _core.Dropout(), None)
    np.testing.assert_array_equal(y.astype(kind), dg.Tensor(plain).numpy())


@pytest.mark.parametrize("dtype", ["int8", "float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "features"), [(1, 1), (33, 31), (70, 1030)])
def test_unpack_gives_the_weight_back(rng, dtype, rows, features):
    values = rng.integers(-128, 128, (rows, features), np.int8)
    values = values.astype({"int8": np.int8, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype])
    packed = _core.pack_weight(core(values))
    back = _core.unpack_weight(packed, dtype, [rows, features])
    np.testing.assert_array_equal(dg.Tensor(back).numpy(), values)


@pytest.mark.parametrize("dtype", ["int8", "float32", "bfloat16"])
def test_a_weight_is_packed_into_a_given_place(rng, dtype):
    values = dg.tensor(rng.integers(-5, 6, (33, 70)).astype(np.int8)).data
    values = values if dtype == "int8" else dg.tensor(dg.Tensor(values).numpy().astype(np.float32), dtype=dtype).data
    size = _core.packed_weight_size([33, 70], dtype)
    block = _core.Tensor.zeros([size + 128], "uint8")
    assert _core.pack_weight(values, block.slice(64, [size])) is not None
    found = np.array(block.numpy())
    np.testing.assert_array_equal(found[64:-64], _core.pack_weight(values).numpy())
    assert not found[:64].any() and not found[-64:].any()
    with pytest.raises(ValueError, match=r"pack_weight: out must have shape \(\d+,\), got \(\d+,\)"):
        _core.pack_weight(values, block)


@pytest.mark.parametrize("dtype", ["int8", "float32", "bfloat16"])
def test_lookups_give_the_rows(rng, dtype):
    table = rng.integers(-127, 128, (50, 37), np.int8)
    table = table.astype({"int8": np.int8, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype])
    scales = rng.uniform(0.1, 2, 50).astype(np.float32) if dtype == "int8" else None
    positions = rng.standard_normal((9, 37)).astype(np.float32)
    ids = np.int32([0, 49, 7, 7, 33, 2, 99, -1])  # the last two are not in use
    sequences, starts = dg.Sequences([4, 0, 2], capacity=8), np.int32([1, 0, 5])
    y = _core.frozen_embedding(
        core(ids),
        _core.pack_weight(core(table)),
        dtype,
        [50, 37],
        None if scales is None else core(scales),
        core(positions),
        core(starts),
        3.0,
        sequences,
    ).numpy()
    rows = table.astype(np.float32) * (np.float32(1) if scales is None else scales[:, None])
    plain = _core.embedding_forward(
        core(ids), core(rows), core(positions), core(starts), 3.0, _core.Dropout(), sequences, "float32"
    )
    np.testing.assert_allclose(y, plain.numpy(), rtol=1e-6, atol=1e-6)


def test_a_recorded_product_is_replayed_at_other_rows(rng):
    weight, scales = rng.integers(-127, 128, (9, 20), np.int8), core(np.full(9, 0.01, np.float32))
    packed = _core.pack_weight(core(weight))

    def run(x):
        return _core.frozen_linear(x, packed, "int8", [9, 20], scales, None, "none", None)

    x = core(rng.standard_normal((3, 20)).astype(np.float32))
    recorder = _core.Recorder()
    program = recorder.finish([x], [run(x)])
    for rows in (1, 5, 40):
        x = core(rng.standard_normal((rows, 20)).astype(np.float32))
        np.testing.assert_array_equal(program.replay([x])[0].numpy(), run(x).numpy())
    assert program.op_names == ["frozen_linear"]


PACKED = np.zeros((4, 3), np.int8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3), ml_dtypes.bfloat16)}, TypeError, "x must be float32, got bfloat16"),
        ({"x": np.zeros((2, 5), np.float32)}, ValueError, r"x must have shape \(2, 3\), got \(2, 5\)"),
        ({"x": np.zeros(3, np.float32)}, ValueError, r"x must have 2 dimensions, got shape \(3,\)"),
        ({"packed": np.zeros(7, np.uint8)}, ValueError, r"packed must have shape \(\d+,\), got \(7,\)"),
        ({"packed": np.zeros((4, 3), np.int8)}, TypeError, "packed must be uint8, got int8"),
        ({"dtype": "int4"}, ValueError, "dtype must be float32, bfloat16 or int8, got int4"),
        ({"shape": [4]}, ValueError, r"shape must be \(rows, columns\), got \(4,\)"),
        ({"scales": None}, ValueError, "scales must be given for int8 alone"),
        ({"scales": np.zeros(3, np.float32)}, ValueError, r"scales must have shape \(4,\), got \(3,\)"),
        ({"bias": np.zeros(3, np.float32)}, ValueError, r"bias must have shape \(4,\), got \(3,\)"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    given = {
        "x": np.zeros((2, 3), np.float32),
        "packed": np.array(_core.pack_weight(core(PACKED)).numpy()),
        "dtype": "int8",
        "shape": [4, 3],
        "scales": np.ones(4, np.float32),
        "bias": None,
        **change,
    }
    tensors = {name: core(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    with pytest.raises(error, match=f"linear: {message}"):
        _core.frozen_linear(*tensors.values(), "none", None)


def test_int8_weights_have_at_most_65536_columns():
    with pytest.raises(ValueError, match="pack_weight: weight may have at most 65536 columns in int8, got 65537"):
        _core.pack_weight(_core.Tensor.zeros([1, 65537], "int8"))
