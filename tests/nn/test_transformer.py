"""TransformerLayer and TransformerStack: names of parameters, rows to spare, memory and cache."""

import dragoman as dg
import numpy as np
import pytest
from dragoman import nn
from dragoman._core import Sequences
from gradcheck import backward, poison_cache, with_tail


@pytest.mark.parametrize("norm_first", [False, True])
def test_rows_to_spare_stay_zeros_and_change_nothing(rng, norm_first):
    def layer(kind):
        return kind(8, 2, 12, norm_first=norm_first, activation="gelu")

    encoder = nn.Encoder([layer(nn.TransformerEncoderLayer) for _ in range(2)], nn.LayerNorm(8))
    decoder = nn.Decoder([layer(nn.TransformerDecoderLayer) for _ in range(2)], nn.LayerNorm(8))
    source, target = (rng.standard_normal((rows, 8)).astype(np.float32) for rows in (5, 6))
    upstream = rng.standard_normal((6, 8)).astype(np.float32)

    def run(tail):
        poison_cache()
        src, tgt = Sequences([2, 3], 5 + tail), Sequences([4, 2], 6 + tail)
        memory = encoder(dg.tensor(with_tail(source, tail)), src)
        out = decoder(dg.tensor(with_tail(target, tail)), tgt, memory, src)
        backward(out, with_tail(upstream, tail))
        grads = [p.grad.numpy().copy() for p in encoder.parameters() + decoder.parameters()]
        for parameter in encoder.parameters() + decoder.parameters():
            parameter.grad = None
        return memory.numpy(), out.numpy(), grads

    memory, out, grads = run(0)
    spare_memory, spare_out, spare_grads = run(3)
    np.testing.assert_array_equal(spare_memory[:5], memory)
    np.testing.assert_array_equal(spare_out[:6], out)
    assert not spare_memory[5:].any() and not spare_out[6:].any()
    for spare, grad in zip(spare_grads, grads, strict=True):
        np.testing.assert_array_equal(spare, grad)


def test_layers_of_a_stack_differ():
    """Layers that start with equal weights learn the same thing for a while (PyTorch #86274)."""
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=20))
    for stack in (model.encoder, model.decoder):
        first, second = (layer.self_attention.q_proj.weight.numpy() for layer in stack.layers[:2])
        assert (first != second).mean() > 0.99


PARTS = {
    "attention": ["q_proj", "k_proj", "v_proj", "out_proj"],
    "feed_forward": ["linear1", "linear2"],
}


def names(*parts):
    for part in parts:
        below = PARTS.get(part.rpartition("_")[2], PARTS.get(part, [""]))
        yield from (f"{part}.{name}.{kind}".replace("..", ".") for name in below for kind in ("weight", "bias"))


def test_parameters_keep_the_names_and_the_order_of_saved_files():
    """The order decides where each parameter lies in the optimizer's arena."""
    encoder = names("self_attention", "norm1", "feed_forward", "norm2")
    decoder = names("self_attention", "norm1", "cross_attention", "norm2", "feed_forward", "norm3")
    assert [name for name, _ in nn.TransformerEncoderLayer(4, 2, 8).named_parameters()] == list(encoder)
    assert [name for name, _ in nn.TransformerDecoderLayer(4, 2, 8).named_parameters()] == list(decoder)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_layer_reads_no_later_token(rng, causal, norm_first):
    layer = nn.TransformerLayer(8, 2, 12, causal=causal, norm_first=norm_first).eval()
    x = rng.standard_normal((5, 8)).astype(np.float32)
    other = x.copy()
    other[3:] += 1
    first, second = (layer(dg.tensor(values), Sequences([5])).numpy() for values in (x, other))
    assert (first[:3] == second[:3]).all() == causal
    assert (first[3:] != second[3:]).any()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("cross_attention", [False, True])
def test_a_cache_changes_nothing(rng, cross_attention, norm_first):
    """A stack run token by token, without a memory as in a language model or with one, gives what it gives at once."""
    options = {"causal": True, "cross_attention": cross_attention, "norm_first": norm_first}
    stack = nn.TransformerStack([nn.TransformerLayer(8, 2, 12, **options) for _ in range(2)], nn.LayerNorm(8)).eval()
    x = rng.standard_normal((6, 8)).astype(np.float32)
    memory = (dg.tensor(rng.standard_normal((5, 8))), Sequences([2, 3])) if cross_attention else ()
    at_once = stack(dg.tensor(x), Sequences([3, 3]), *memory).numpy()
    with dg.no_grad():
        cache = nn.KVCache(2)
        steps = [
            stack(dg.tensor(x[[step, 3 + step]]), Sequences([1, 1]), *(memory or (None, None)), cache).numpy()
            for step in range(3)
        ]
    np.testing.assert_allclose(np.concatenate(np.stack(steps, 1)), at_once, atol=1e-5)


def test_a_memory_goes_with_cross_attention():
    x, one = dg.tensor(np.ones((1, 4), np.float32)), Sequences([1])
    with pytest.raises(ValueError, match="TransformerDecoderLayer: memory must be a Tensor for this layer, got None"):
        nn.TransformerDecoderLayer(4, 2, 8)(x, one)
    with pytest.raises(ValueError, match="TransformerLayer: memory must be None for this layer, got a Tensor"):
        nn.TransformerLayer(4, 2, 8)(x, one, x, one)
    with pytest.raises(TypeError, match="Encoder: memory must be a Tensor, got NoneType"):
        nn.Encoder([nn.TransformerLayer(4, 2, 8)])(x, one, None, one)
