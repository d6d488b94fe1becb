"""The matrix product, on every instruction set that this machine runs."""

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
    names = ("test_linear.py", "test_packed_weight.py", "test_gemm.py", "test_frozen.py")
    tests = [Path(__file__).with_name(name) for name in names]
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
