"""LoRA: adapters against merged weights, alone and mixed in one batch."""

import json
from copy import deepcopy

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import generate
from safetensors.numpy import load_file, save_file

SRC = [[4, 5, 6], [7], [8, 9, 4, 5]]
TGT = [[5, 6], [4], [9, 9, 8]]
FED = [[1, *ids] for ids in TGT]
MODULES = ["q_proj", "decoder.layers.0.feed_forward.linear1", "linear2", "out_proj"]


def make(**options):
    dg.manual_seed(5)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 20, "num_encoder_layers": 1, "num_decoder_layers": 2}
    config = dg.TransformerConfig.base(vocab_size=12, **sizes, **options)
    return dg.Transformer(config.with_dropout(0.0))


def with_adapter(model, seed, name="default", **options):
    """The model with an adapter whose values are those of a trained one."""
    dg.lora.add(model, name=name, modules=MODULES, **({"rank": 3} | options))
    rng = np.random.default_rng(seed)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and not parameter.numpy().any():
            assert key.endswith(".b")
            parameter.copy_(rng.normal(0, 0.3, parameter.shape))
    return model


def test_a_new_adapter_changes_nothing_and_is_all_that_trains():
    plain, model = make(), make()
    found = dg.lora.add(model, rank=2, modules=MODULES)
    assert "decoder.layers.0.feed_forward.linear1" in found and "decoder.layers.1.feed_forward.linear1" not in found
    np.testing.assert_array_equal(model.logits(SRC, FED), plain.logits(SRC, FED))
    trainable = {name for name, x in model.named_parameters() if x.requires_grad}
    assert trainable == {f"{place}.adapters.0.{side}" for place in found for side in "ab"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_follow_from_those_of_the_merged_weights(dtype):
    """d a = scale b^T dW, d b = scale dW a^T, with dW the gradient of the weight that the update was merged into."""
    model = with_adapter(make(), 1, alpha=5.0)
    merged = deepcopy(model)
    dg.lora.merge(merged)
    assert type(merged.decoder.layers[0].feed_forward.linear1) is dg.nn.Linear
    model.compute_dtype = merged.compute_dtype = dtype
    losses = [x.loss(SRC, TGT) for x in (model, merged)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5 if dtype == "float32" else 1e-2)
    for loss in losses:
        loss.backward()
    weights = dict(merged.named_parameters())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        place, side = name.split(".adapters.0.")
        adapter = dict(model.named_modules())[f"{place}.adapters.0"]
        dweight = weights[f"{place}.weight"].grad.numpy().astype(np.float64)
        a, b = adapter.a.numpy().astype(np.float64), adapter.b.numpy().astype(np.float64)
        truth = 5 / 3 * (b.T @ dweight if side == "a" else dweight @ a.T)
        bar = 1e-4 if dtype == "float32" else 0.05
        assert np.abs(parameter.grad.numpy() - truth).max() < bar * max(np.abs(truth).max(), 0.01), name


def test_a_batch_that_mixes_adapters_equals_merged_runs():
    model = make()
    for seed, name in enumerate(["law", "news", "talks"]):
        with_adapter(model, seed, name)
    assert dg.lora.adapters(model) == ["law", "news", "talks"]
    batch, fed, names = [*SRC, [6, 6]], [*FED, [1, 7]], ["news", "law", "talks", None]
    with dg.lora.using(model, names):
        together = model.logits(batch, fed)
        found = generate(model, batch, beam=3, max_length=6)
    first = 0
    for src, tgt, name, hypotheses in zip(batch, fed, names, found, strict=True):
        alone = deepcopy(model)
        if name is None:
            alone = make()
        else:
            dg.lora.merge(alone, name)
        np.testing.assert_allclose(together[first : first + len(tgt)], alone.logits([src], [tgt]), atol=2e-5)
        (expected,) = generate(alone, [src], beam=3, max_length=6)
        assert [h.ids for h in hypotheses] == [h.ids for h in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [h.score for h in expected], atol=1e-5)
        first += len(tgt)
    np.testing.assert_array_equal(
        model.encoder.layers[0].self_attention.q_proj.weight.numpy(),
        make().encoder.layers[0].self_attention.q_proj.weight.numpy(),
    )


def test_training_moves_the_adapter_alone(tmp_path):
    model, before = make(), make().state_dict()
    dg.lora.add(model, rank=2, dropout=0.1)
    pairs = [([4, 5], [6, 7]), ([8], [9])]
    dg.Trainer(model, output=tmp_path / "run", lr=0.05, max_steps=8, checkpoint_every=4, seed=1).fit(pairs)
    state = model.state_dict()
    for name, array in before.items():
        np.testing.assert_array_equal(state[name], array)
    assert any(state[name].any() for name in state if name.endswith("adapters.0.b"))
    saved = dg.load(tmp_path / "run")  # with the update merged
    np.testing.assert_allclose(saved.logits(SRC, FED), model.logits(SRC, FED), atol=2e-5)


def test_files_are_those_of_peft(tmp_path):
    model = with_adapter(make(), 1, alpha=5.0, dropout=0.25)
    dg.lora.save(model, tmp_path / "adapter")
    arrays = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    place = "base_model.model.encoder.layers.0.self_attention.q_proj"
    assert arrays[f"{place}.lora_A.weight"].shape == (3, 16)
    assert arrays[f"{place}.lora_B.weight"].shape == (16, 3)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["lora_dropout"]) == ("LORA", 3, 5.0, 0.25)
    loaded = make()
    assert set(dg.lora.load(loaded, tmp_path / "adapter")) == set(config["target_modules"])
    np.testing.assert_array_equal(loaded.logits(SRC, FED), model.logits(SRC, FED))
    with dg.lora.using(loaded, None):
        np.testing.assert_array_equal(loaded.logits(SRC, FED), make().logits(SRC, FED))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 4}, r"adapter of .* must have shape \(4, 16\), got \(3, 16\)"),
        ({"r": 0}, "r must be at least 1, got 0"),
        ({"use_dora": True}, "use_dora must be False, got True"),
        ({"bias": "all"}, "bias must be 'none', got 'all'"),
        ({"lora_alpha": None}, "lora_alpha must be a number, got NoneType"),
    ],
)
def test_a_config_that_does_not_fit_is_named(tmp_path, change, message):
    dg.lora.save(with_adapter(make(), 1), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    model = make()
    with pytest.raises(ValueError, match=message):
        dg.lora.load(model, tmp_path)
    assert not dg.lora.adapters(model) and all(x.requires_grad for x in model.parameters())


def test_weights_that_do_not_fit_are_named(tmp_path):
    dg.lora.save(with_adapter(make(), 1), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    arrays = load_file(path)
    first = next(iter(arrays))
    save_file({name: array for name, array in arrays.items() if name != first}, path)
    with pytest.raises(ValueError, match=r"adapter_model.safetensors: must hold lora_A and lora_B of each module"):
        dg.lora.load(make(), tmp_path)
    save_file({name.replace("q_proj", "z_proj"): array for name, array in arrays.items()}, path)
    with pytest.raises(ValueError, match="z_proj must be a Linear of the model"):
        dg.lora.load(make(), tmp_path)


def test_errors_name_the_argument():
    model = with_adapter(make(), 1)
    with pytest.raises(ValueError, match=r"lora.add: modules must match Linears, named .*q_proj.*, got 'query'"):
        dg.lora.add(make(), modules=["query"])
    with pytest.raises(ValueError, match=r"lora.add: name must be new, got 'default'"):
        dg.lora.add(model)
    with (
        pytest.raises(ValueError, match=r"lora.using: choice must be among default, got 'law'"),
        dg.lora.using(model, "law"),
    ):
        pass
    with (
        dg.lora.using(model, ["default", None]),
        pytest.raises(ValueError, match="chosen for 2 sentences, got a batch of 3"),
    ):
        model.logits(SRC, FED)
    with pytest.raises(ValueError, match=r"lora.save: name must be among \['default'\], got 'law'"):
        dg.lora.save(model, "nowhere", "law")
    tied = make()
    dg.lora.add(tied, modules=["output"])
    with pytest.raises(ValueError, match=r"lora.merge: the weight of output must be its own"):
        dg.lora.merge(tied)


@pytest.mark.parity
def test_peft_reads_what_save_wrote_and_writes_what_load_reads(tmp_path):
    """A torch module with Linears of the same names runs with the adapter to the same outputs, both ways."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")

    class Attention(torch.nn.Module):
        def __init__(self, attention):
            super().__init__()
            for name in ("q_proj", "v_proj"):
                weight, bias = getattr(attention, name).weight.numpy(), getattr(attention, name).bias.numpy()
                linear = torch.nn.Linear(*weight.shape[::-1])
                linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
                setattr(self, name, linear)

        def forward(self, x):
            return self.q_proj(x), self.v_proj(x)

    def outputs(attention, x):
        return [linear(dg.tensor(x)).numpy() for linear in (attention.q_proj, attention.v_proj)]

    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 16)).astype(np.float32)
    attention = dg.nn.MultiHeadAttention(16, 2).eval()
    theirs = Attention(attention)
    dg.lora.add(attention, rank=3, alpha=5.0)
    for linear in (attention.q_proj, attention.v_proj):
        linear.adapters[0].b.copy_(rng.normal(0, 0.3, (16, 3)))
    dg.lora.save(attention, tmp_path / "ours")
    wrapped = peft.PeftModel.from_pretrained(theirs, tmp_path / "ours")
    for ours, other in zip(outputs(attention, x), wrapped(torch.tensor(x)), strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy(), atol=1e-5)

    wrapped.save_pretrained(tmp_path / "theirs")
    fresh = dg.nn.MultiHeadAttention(16, 2).eval()
    for name in ("q_proj", "v_proj"):
        getattr(fresh, name).weight.copy_(getattr(attention, name).weight.numpy())
    dg.lora.load(fresh, tmp_path / "theirs")
    for first, second in zip(outputs(attention, x), outputs(fresh, x), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)
