"""FeedForward against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman import nn
from gradcheck import check_op, next_mask


@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_two_linears_around_a_dropout(rng, kind):
    arrays = [rng.standard_normal(shape) for shape in [(17, 12), (40, 12), (40,), (12, 40), (12,)]]
    mask = next_mask(17, 40, 0.3)
    layer = nn.FeedForward(12, 40, activation=kind, dropout=0.3)

    def run(x, weight1, bias1, weight2, bias2):
        layer.linear1.weight, layer.linear1.bias = weight1, bias1
        layer.linear2.weight, layer.linear2.bias = weight2, bias2
        return layer(x, dg.Sequences([10, 7], capacity=20))

    def forward(x, weight1, bias1, weight2, bias2):
        return reference.linear(reference.linear(x, weight1, bias1, kind, mask.astype(x.dtype)), weight2, bias2)

    def backward(dy, x, weight1, bias1, weight2, bias2):
        factor = mask.astype(x.dtype)
        hidden = reference.linear(x, weight1, bias1, kind, factor)
        dhidden, dweight2, dbias2 = reference.linear_backward(dy, hidden, weight2, bias2)
        return *reference.linear_backward(dhidden, x, weight1, bias1, kind, factor), dweight2, dbias2

    check_op(run, forward, backward, arrays, tail=3)


def test_one_mask_in_training_and_none_in_inference():
    layer, x = nn.FeedForward(4, 8, dropout=0.5), dg.tensor(np.ones((3, 4)))
    first = dg.random.get_state()["next_id"]
    layer(x)
    assert dg.random.get_state()["next_id"] == first + 1
    layer.eval()
    np.testing.assert_array_equal(layer(x), layer(x))
    assert dg.random.get_state()["next_id"] == first + 1
