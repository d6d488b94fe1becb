"""The matrix product: every instruction set that this machine runs, and the product of int8."""

import os
import subprocess
import sys
from pathlib import Path

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core

pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("isa", _core.cpu_isas())
def test_every_instruction_set(isa):
    """The other tests of products with that instruction set forced."""
    tests = [Path(__file__).with_name(name) for name in ("test_linear.py", "test_packed_weight.py", "test_gemm.py")]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", "not every_instruction", *tests],
        env=os.environ | {"DRAGOMAN_ISA": isa},
        check=True,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("in_features", "out_features"), [(2050, 33), (40, 530), (96, 544), (7, 1)])
def test_a_row_has_the_same_bits_in_any_batch(rng, dtype, in_features, out_features):
    """Forward and dx, alone or among others, with one thread or three."""
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    x, dy, weight = (
        rng.standard_normal(shape).astype(kind)
        for shape in [(131, in_features), (131, out_features), (out_features, in_features)]
    )

    def run(begin, end, threads):
        dg.set_num_threads(threads)
        rows, upstream, w = (dg.tensor(array).data for array in (x[begin:end], dy[begin:end], weight))
        y, _ = _core.linear_forward(rows, w, None, "none", _core.Dropout(), None)
        dx = _core.linear_backward(
            upstream, rows, w, None, "none", _core.Dropout(), True, None, False, None, False, None
        )
        return y.numpy(), dx.numpy()

    whole = run(0, 131, 1)
    for begin, end in [(0, 131), (0, 1), (3, 20), (130, 131), (40, 110)]:
        for part, all_rows in zip(run(begin, end, 3), whole, strict=True):
            np.testing.assert_array_equal(part, all_rows[begin:end])


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 1),
        (31, 33, 1),
        (33, 31, 65),
        (7, 40, 1023),
        (40, 45, 1088),
        (2, 45, 4099),
        (15, 70, 2),
        (3, 5, 0),
        (0, 4, 3),
        (4, 0, 3),
    ],
)
def test_int8_matmul_is_exact(rng, m, n, k):
    a, b = rng.integers(0, 256, (m, k), np.uint8), rng.integers(-128, 128, (n, k), np.int8)
    c = _core.int8_matmul(dg.tensor(a).data, dg.tensor(b).data)
    assert c.dtype == "int32"
    np.testing.assert_array_equal(c.numpy(), a.astype(np.int64) @ b.T.astype(np.int64))


@pytest.mark.parametrize("value", [127, -127, -128])
def test_int8_matmul_does_not_saturate(value):
    """2 * 255 * 127 is too large for int16, where a multiply-add of int8 pairs saturates. 65536 fill an int32."""
    for k in (1, 2, 3, 65536):
        a, b = np.full((15, k), 255, np.uint8), np.full((33, k), value, np.int8)
        assert (_core.int8_matmul(dg.tensor(a).data, dg.tensor(b).data).numpy() == 255 * value * k).all()


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        ((np.int8, 2, 3), (np.int8, 4, 3), TypeError, "a must be uint8, got int8"),
        ((np.uint8, 2, 3), (np.uint8, 4, 3), TypeError, "b must be int8, got uint8"),
        ((np.uint8, 2, 3), (np.int8, 4, 5), ValueError, r"b must have shape \(n, 3\), got \(4, 5\)"),
        ((np.uint8, 2), (np.int8, 4, 5), ValueError, r"a must have 2 dimensions, got shape \(2,\)"),
        ((np.uint8, 1, 65537), (np.int8, 1, 65537), ValueError, "a may have at most 65536 columns, got 65537"),
    ],
)
def test_int8_matmul_errors_name_the_argument(a, b, error, message):
    tensors = [dg.tensor(np.zeros(shape, dtype)).data for dtype, *shape in (a, b)]
    with pytest.raises(error, match=f"int8_matmul: {message}"):
        _core.int8_matmul(*tensors)
