"""Products, losses and embeddings of a device: what its cuBLASLt is asked for, and shapes that it treats apart."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import _core
from gradcheck import with_tail


@pytest.fixture(autouse=True)
def _on_a_device(device):
    if device == "cpu":
        pytest.skip("about a device")


@pytest.mark.parametrize("size", [64, 65, 100, 129, 257])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sizes_that_share_an_algorithm(rng, size, dtype):
    """The leading dimension is the size itself, and what the algorithm is chosen for is larger."""
    a, b = rng.integers(-4, 5, (size, 3)), rng.integers(-4, 5, (3, size))
    a_data, b_data = (dg.tensor(x, dtype=dtype).data for x in (a, b))
    product = _core.matmul(a_data, b_data, False, False, "float32")
    np.testing.assert_array_equal(product.numpy().astype(int), a @ b)
    back = _core.matmul(a_data, b_data, True, True, "float32")
    np.testing.assert_array_equal(back.numpy().astype(int), a.T @ b.T)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_operands_at_odd_addresses(rng, dtype):
    """An algorithm holds for the alignment of the addresses that it was chosen for."""
    values = rng.integers(-4, 5, 200)
    whole = dg.tensor(values, dtype=dtype)
    for first in (0, 1, 2, 4, 8):
        part = whole[first : first + 12].reshape(3, 4)
        square = _core.matmul(part.data, part.data, False, True, "float32")
        expected = values[first : first + 12].reshape(3, 4)
        np.testing.assert_array_equal(square.numpy().astype(int), expected @ expected.T)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_chunks_of_rows(rng, dtype):
    """A chunk has up to 4096 rows: two chunks here."""
    rows, vocabulary = 4100, 3
    ids = rng.integers(-1, vocabulary, rows)
    x, weight = rng.standard_normal((rows, 2)), rng.standard_normal((vocabulary, 2))
    bias = np.array([0.5, -1.0, 2.0])  # bfloat16 has these values
    x, weight = (dg.tensor(a, "cpu", dtype=dtype).numpy().astype(np.float64) for a in (x, weight))
    tensors = [
        dg.tensor(with_tail(a, 3 * (a is x)), "cuda", dtype if a.ndim > 1 else "float32") for a in (x, weight, bias)
    ]
    for tensor in tensors:
        tensor.requires_grad = True
    sequences = dg.Sequences([rows], capacity=rows + 3)
    loss = dg.functional.linear_cross_entropy(*tensors[:2], with_tail(ids, 3), bias=tensors[2], sequences=sequences)
    loss.backward()
    logits = reference.linear(x, weight, bias)
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == "float32" else 3e-3}
    np.testing.assert_allclose(loss.numpy(), reference.cross_entropy(logits, ids), **tolerance)
    (dlogits,) = reference.cross_entropy_backward(1.0, logits, ids)
    for tensor, expected in zip(tensors, reference.linear_backward(dlogits, x, weight, bias), strict=True):
        np.testing.assert_allclose(tensor.grad.numpy().astype(np.float64)[: len(expected)], expected, **tolerance)
    assert not tensors[0].grad.numpy()[rows:].any()


def test_the_same_bits_in_every_run(rng):
    x, weight = rng.standard_normal((333, 40)), rng.standard_normal((70, 40))
    ids = rng.integers(-1, 70, 333)

    def gradients():
        tensors = [dg.tensor(a, "cuda", "float32", requires_grad=True) for a in (x, weight)]
        loss = dg.functional.linear_cross_entropy(*tensors, ids)
        loss.backward()
        return [loss.numpy(), *(tensor.grad.numpy() for tensor in tensors)]

    for first, second in zip(gradients(), gradients(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_int8_products_are_refused_by_name():
    x, packed = _core.Tensor.zeros([2, 3], "float32", "cuda"), _core.Tensor.zeros([0], "uint8", "cuda")
    scales = _core.Tensor.zeros([4], "float32", "cuda")
    with pytest.raises(RuntimeError, match=r"frozen_linear: packed weights are not supported on cuda"):
        _core.frozen_linear(x, packed, "int8", [4, 3], scales, None, "none", None)
