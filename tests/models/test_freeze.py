"""Frozen models: what they compute, what they refuse, and their folders."""

import copy
import json
import pickle

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core, lora
from dragoman import frozen as frozen_module
from dragoman.arrays import DTYPES as DTYPES_OF
from dragoman.files import SafetensorsFile
from dragoman.frozen import FrozenWeight, quantize
from dragoman.generate import generate
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder
from dragoman.models.folder import freeze_folder
from dragoman.nn import Linear
from dragoman.nn.kv_cache import cache_dtype
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.cpu

DTYPES = ["int8", "bfloat16", "float32"]
BATCH = [[5, 6, 7, 30, 12], [8, 9]], [[1, 10, 11], [1, 12]]


def translator(**options):
    dg.manual_seed(3)
    fields = {"vocab_size": 37, "d_model": 24, "num_heads": 3, "d_ff": 40, "dropout": 0.1}
    return dg.Transformer(dg.TransformerConfig(**fields, num_encoder_layers=1, num_decoder_layers=1, **options)).eval()


class Simulated(Linear):
    """The product of a frozen Linear, with float64 sums of NumPy."""

    def __init__(self, linear, dtype):
        self.weight, self.bias, self.dtype = linear.weight, linear.bias, dtype

    def __call__(self, x, sequences=None, *, activation="none", dropout=0.0):
        rows, weight = x.numpy().astype(np.float64), self.weight.numpy()
        if self.dtype == "int8":
            step = np.abs(rows).max(axis=1, keepdims=True) / 127
            rows = np.rint(rows / step) * step
            step = np.abs(weight).max(axis=1, keepdims=True).astype(np.float64) / 127
            weight = np.rint(weight / step) * step
        else:
            rows, weight = (a.astype(ml_dtypes.bfloat16).astype(np.float64) for a in (rows, weight))
        y = rows @ weight.T + (0 if self.bias is None else self.bias.numpy())
        y = dg.tensor(y.astype(np.float32))
        return y if activation == "none" else getattr(dg.functional, activation)(y)


def simulation(model, dtype):
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if isinstance(module, Linear):
            lora._set(twin, name, Simulated(module, dtype))
    tables = {id(e.weight): e.weight for e in (twin.src_embedding, twin.tgt_embedding)}
    if twin.config.ties_output:
        for table in tables.values():
            twin.output.weight = copy.deepcopy(table)
    for table in tables.values():
        values, scales = quantize(table.numpy())
        rounded = table.numpy().astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else values * scales[:, None]
        table.copy_(rounded.astype(np.float32))
    return twin


@pytest.mark.parametrize("tie", ["three", "none"])
@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_logits_are_those_of_a_simulation(dtype, tie):
    """But for values on the border of two steps, where the last bit of a float32 decides."""
    model = translator(tie_embeddings=tie, activation="gelu")
    before, expected = model.logits(*BATCH), simulation(model, dtype).logits(*BATCH)
    assert model.freeze(dtype) is model
    logits = model.logits(*BATCH)
    error = np.abs(logits - before).mean()
    assert 1e-4 < error < 0.05
    assert np.abs(logits - expected).mean() < 0.02 * error


@pytest.mark.parametrize("tie", ["three", "none"])
def test_float32_changes_nothing(tie):
    model = translator(tie_embeddings=tie)
    before, found = model.logits(*BATCH), generate(model, BATCH[0], beam=2, max_length=8)
    model.freeze("float32")
    np.testing.assert_allclose(model.logits(*BATCH), before, rtol=1e-5, atol=1e-6)
    again = generate(model, BATCH[0], beam=2, max_length=8)
    assert [h.ids for best in again for h in best] == [h.ids for best in found for h in best]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_search_reads_what_the_logits_say(dtype):
    """Cached steps of few rows and one call of many: the same numbers, and so the same tokens."""
    model = translator().freeze(dtype)
    ((best,),) = generate(model, BATCH[0][:1], beam=1, max_length=8)
    ids = [model.config.bos_id]
    forbidden = [model.config.pad_id, model.config.bos_id, model.config.unk_id]
    while len(ids) <= 8:
        row = np.array(model.logits(BATCH[0][:1], [ids])[-1])
        row[forbidden] = -np.inf
        chosen = best.ids[len(ids) - 1] if len(ids) <= len(best.ids) else model.config.eos_id
        assert row[chosen] >= row.max() - (0.01 if cache_dtype(model) == "bfloat16" else 0)
        if chosen == model.config.eos_id:
            break
        ids.append(chosen)
    assert list(best.ids) == ids[1:]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "make",
    [
        translator,
        lambda: TextDecoder(DecoderConfig(vocab_size=37, d_model=24, num_heads=2, d_ff=40, num_layers=1)).eval(),
        lambda: TextEncoder(
            EncoderConfig(vocab_size=37, d_model=24, num_heads=2, d_ff=40, num_layers=1, head="mlm", token_types=2)
        ).eval(),
        lambda: TextEncoder(
            EncoderConfig(
                vocab_size=37, d_model=24, num_heads=2, d_ff=40, num_layers=1, head="classify", labels=("a", "b")
            )
        ).eval(),
    ],
    ids=["translator", "decoder", "mlm", "classifier"],
)
def test_a_folder_keeps_a_frozen_model(tmp_path, make, dtype):
    model = make()
    batch = BATCH if make is translator else BATCH[:1]
    count, text = model.num_parameters(), repr(model)
    model.freeze(dtype).save(tmp_path)
    assert (model.num_parameters(), model.frozen) == (count, dtype)
    assert repr(model) != text and dtype in repr(model)
    assert json.loads((tmp_path / "config.json").read_text())["frozen"] == dtype
    loaded = dg.load(tmp_path)
    assert (loaded.num_parameters(), loaded.frozen, repr(loaded)) == (count, dtype, repr(model))
    np.testing.assert_array_equal(loaded.logits(*batch), model.logits(*batch))
    again = tmp_path / "again"
    dg.load(tmp_path, compute_type=dtype).save(again)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_an_int8_folder_holds_values_and_scales(tmp_path):
    model = translator(tie_embeddings="three")
    state = model.state_dict()
    model.freeze("int8").save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    weight = stored["encoder.layers.0.self_attention.q_proj.weight"]
    assert weight.dtype == np.int8 and weight.shape == (24, 24)
    for name, original in state.items():
        if name + ".scales" not in stored:
            np.testing.assert_array_equal(stored[name], original)
            continue
        scales = stored[name + ".scales"][:, None]
        assert np.abs(stored[name]).max(axis=1).min() == 127
        assert (np.abs(stored[name] * scales - original) <= scales * 0.5001).all()
    matrices = [name for name in stored if stored[name].dtype == np.int8]
    assert "src_embedding.weight" in matrices and not any("norm" in name or "bias" in name for name in matrices)
    assert "output.weight" not in stored and "tgt_embedding.weight" not in stored  # tied


def test_tied_weights_are_one_and_memory_shrinks():
    model = translator(tie_embeddings="three")
    table = model.src_embedding.weight
    assert model.output.weight is table
    big = dg.Transformer(
        dg.TransformerConfig(
            vocab_size=4000,
            d_model=64,
            num_heads=2,
            d_ff=256,
            num_encoder_layers=1,
            num_decoder_layers=1,
            tie_embeddings="three",
        )
    ).eval()
    generate(big, [[5, 6]], beam=1, max_length=3)  # packed copies exist, too, and recorded steps that read them
    float32 = dg.memory_stats()["allocated"]
    size = big.num_parameters()
    big.freeze("int8")
    assert big.src_embedding.weight is big.output.weight is big.tgt_embedding.weight
    saved = float32 - dg.memory_stats()["allocated"]
    assert saved > 2.9 * size  # of at least 4 bytes, at most 1.1 are left


@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_and_pickles(dtype):
    model = translator().freeze(dtype)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.frozen == dtype
        np.testing.assert_array_equal(twin.logits(*BATCH), model.logits(*BATCH))
        assert twin.output.weight is not model.output.weight


def test_an_adapter_beside_a_frozen_base(tmp_path):
    model = translator()
    lora.add(model, rank=2, modules=["q_proj", "linear1"], name="a")
    for name, parameter in model.named_parameters():
        if name.endswith(".b"):
            parameter.copy_(np.random.default_rng(0).standard_normal(parameter.shape).astype(np.float32) * 0.1)
    lora.save(model, tmp_path / "adapter", "a")
    trained = model.logits(*BATCH)
    loaded = translator().freeze("int8")
    plain = loaded.logits(*BATCH)
    lora.load(loaded, tmp_path / "adapter", "a")
    frozen_later = model.freeze("int8").logits(*BATCH)
    np.testing.assert_array_equal(loaded.logits(*BATCH), frozen_later)
    assert np.abs(frozen_later - trained).mean() < 0.2 * np.abs(frozen_later - plain).mean()
    with lora.using(loaded, None):
        np.testing.assert_array_equal(loaded.logits(*BATCH), plain)
    with pytest.raises(ValueError, match=r"save: the model is frozen, so its adapters cannot be added to it"):
        loaded.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"lora.merge: the model is frozen in int8; merge into the model"):
        lora.merge(loaded)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.train(), "train: the model is frozen in int8; train the model that it was made from"),
        (lambda m: m.freeze("int8"), "freeze: the model is frozen in int8; freeze the model that it was made from"),
        (lambda m: m.state_dict(), "state_dict: the model is frozen in int8; `save` writes it"),
        (lambda m: m.load_state_dict({}), "load_state_dict: the model is frozen in int8; load into the model"),
        (lambda m: m.to("test"), "to: the model is frozen in int8; freeze another one for test in bfloat16"),
        (
            lambda m: dg.functional.linear(dg.tensor(np.ones((1, 24)), requires_grad=True), m.output.weight),
            "backward: a weight that is frozen in int8 has no gradient to hand on",
        ),
        (
            lambda m: dg.functional.embedding(
                [1], m.output.weight, dg.Sequences([1]), positions=dg.tensor(np.ones((1, 24)), requires_grad=True)
            ),
            "backward: a weight that is frozen in int8 has no gradient to hand on",
        ),
        (
            lambda m: dg.functional.linear(dg.tensor(np.ones((1, 24))), m.output.weight, dropout=0.5),
            "linear: a frozen weight takes float32 and no dropout, got float32 and dropout 0.5",
        ),
    ],
)
def test_what_a_frozen_model_refuses(call, message):
    model = translator().freeze("int8")
    before = model.logits(*BATCH)
    with pytest.raises(ValueError, match=message):
        call(model)
    np.testing.assert_array_equal(model.logits(*BATCH), before)


def test_nothing_is_frozen_where_something_does_not_fit():
    model = translator()
    with pytest.raises(ValueError, match="freeze: dtype must be one of int8, bfloat16, float32, got 'int4'"):
        model.freeze("int4")
    model.output.weight.copy_(np.full((37, 24), np.inf, np.float32))
    with pytest.raises(ValueError, match=r'freeze: weights must be finite for "int8", got .*weight with a value'):
        model.freeze("int8")
    assert model.frozen is None and model.train().training


def test_a_loss_of_a_frozen_model_has_no_gradient():
    loss = translator().freeze("int8").loss(*([ids[1:] for ids in side] for side in BATCH))
    with pytest.raises(RuntimeError, match=r"backward: the tensor requires no gradient .*a frozen model has none"):
        loss.backward()


def test_a_loss_is_that_of_the_logits():
    model = translator()
    expected = float(model.loss(*([ids[1:] for ids in side] for side in BATCH)).numpy())
    model.freeze("int8")
    loss = model.loss(*([ids[1:] for ids in side] for side in BATCH))
    assert not loss.requires_grad and abs(float(loss.numpy()) - expected) < 0.02


class Doubled(Linear):
    def __call__(self, x, sequences=None, *, activation="none", dropout=0.0):
        return super().__call__(x, sequences, activation=activation, dropout=dropout) * 2.0


def test_a_weight_that_is_read_in_another_way_stays():
    model = translator(tie_embeddings="none")
    model.output = Doubled(24, 37)
    before = model.logits(*BATCH)
    model.freeze("int8")
    assert isinstance(model.output.weight, dg.nn.Parameter) and isinstance(model.tgt_embedding.weight, FrozenWeight)
    assert np.abs(model.logits(*BATCH) - before).mean() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.layers.0.norm1.weight"), "decoder.layers.0.norm1.weight is missing"),
        (lambda s: s.pop("output.weight.scales"), "output.weight.scales is missing"),
        (lambda s: s.update(odd=np.zeros(1, np.float32)), "'?odd'? belongs to no weight of the model"),
        (lambda s: s.update({"output.weight": np.zeros((3, 3), np.int8)}), r"output.weight must be int8 of shape \(37"),
        (lambda s: s.update({"output.weight": np.zeros((37, 24), np.float32)}), "output.weight must be int8 of shape"),
        (
            lambda s: s.update({"output.weight.scales": np.zeros(36, np.float32)}),
            r"output.weight.scales must be float32 of shape \(37,\), got float32 of shape \(36,\)",
        ),
        (
            lambda s: s.update({"output.weight.scales": np.full(37, np.nan, np.float32)}),
            "output.weight.scales must be finite, got a value that is not",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, change, message):
    translator(tie_embeddings="none").freeze("int8").save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"model.safetensors: {message}"):
        dg.load(tmp_path)


def test_a_folder_that_is_cut_or_of_another_dtype_is_refused(tmp_path):
    translator().freeze("int8").save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    content, values = weights.read_bytes(), json.loads(config.read_text())
    for size in (0, 7, 100, len(content) - 1):
        weights.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"model\.safetensors: not a safetensors file"):
            dg.load(tmp_path)
    weights.write_bytes(content)
    for change, message in [
        ({"frozen": "bfloat16"}, "model.safetensors: .* must be bfloat16 of shape .*, got int8|belongs to no weight"),
        ({"frozen": "float32"}, "model.safetensors: .* must be float32 of shape .*, got int8|belongs to no weight"),
        ({"frozen": 8}, "config.json: .*frozen must be"),
        ({"frozen": None}, "model.safetensors: load_state_dict: unexpected parameters: .*scales"),
    ]:
        config.write_text(json.dumps(values | change))
        with pytest.raises(ValueError, match=message):
            dg.load(tmp_path)


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path):
    translator().freeze("int8").save(tmp_path)
    file = SafetensorsFile(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.safetensors: array .*norm1\.weight\W* must have 96 bytes, got fewer"):
        file.array("decoder.layers.0.norm1.weight")
    with pytest.raises(ValueError, match=r"model\.safetensors: array .*norm1\.weight\W* must have 96 bytes, got fewer"):
        file.fill("decoder.layers.0.norm1.weight", 0, _core.Tensor.empty([24]))


def test_weights_that_are_not_finite_are_not_loaded_in_int8(tmp_path):
    model = translator(tie_embeddings="none")
    model.output.weight.copy_(np.full((37, 24), np.nan, np.float32))
    model.save(tmp_path)
    with pytest.raises(ValueError, match=r'model.safetensors: output.weight must be finite for "int8", got a value'):
        dg.load(tmp_path, compute_type="int8")


def test_a_frozen_model_does_not_replace_one_that_can_be_trained(tmp_path):
    model = translator()
    model.save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    frozen = translator().freeze("int8")
    with pytest.raises(ValueError, match=r"save: folder must not hold a model that can be trained, as .* does"):
        frozen.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    frozen.save(tmp_path / "int8")
    frozen.save(tmp_path / "int8")
    model.save(tmp_path / "int8")
    assert dg.load(tmp_path / "int8").frozen is None


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_keys_and_values_of_a_frozen_model_are_kept_in_bfloat16(dtype):
    """Half the memory, and scores near those without a cache."""
    model = translator().freeze(dtype)
    assert cache_dtype(model) == "bfloat16" and cache_dtype(translator().freeze("float32")) == "float32"
    ((best, *_),) = generate(model, BATCH[0][:1], beam=2, max_length=8, length_penalty=0)
    logits = model.logits(BATCH[0][:1], [[model.config.bos_id, *best.ids]]).astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ids = [*best.ids, model.config.eos_id][: best.length]
    expected = log_probs[np.arange(len(ids)), ids]
    np.testing.assert_allclose(best.token_logprobs, expected, atol=0.02)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_weights_are_frozen_in_parts_as_they_are_read(monkeypatch, tmp_path, stored, dtype):
    monkeypatch.setattr(frozen_module, "_PART", 1)  # 64 rows
    dg.manual_seed(4)
    fields = {"vocab_size": 333, "d_model": 24, "num_heads": 3, "d_ff": 150, "num_layers": 1}
    model = TextDecoder(DecoderConfig(**fields)).eval()
    model.save(tmp_path)
    path = tmp_path / "model.safetensors"
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    kind = DTYPES_OF.get(stored, stored)
    save_file({name: array.astype(kind) for name, array in load_file(path).items()}, path, metadata)
    frozen, plain = dg.load(tmp_path, compute_type=dtype), dg.load(tmp_path)
    expected = dict(plain.freeze(dtype).named_frozen())
    for name, weight in frozen.named_frozen():
        np.testing.assert_array_equal(weight.values(), expected[name].values())
        if dtype == "int8":
            np.testing.assert_array_equal(weight.scales.numpy(), expected[name].scales.numpy())
    ids = [[5, 6, 7, 30, 12], [8, 9]]
    np.testing.assert_array_equal(frozen.logits(ids), plain.logits(ids))


def test_compute_types_of_load(tmp_path):
    plain, frozen = tmp_path / "plain", tmp_path / "frozen"
    model = translator()
    model.save(plain)
    model.freeze("int8").save(frozen)
    assert dg.load(plain).train().frozen is None
    for dtype in DTYPES:
        assert dg.load(plain, compute_type=dtype).frozen == dtype
    np.testing.assert_array_equal(dg.load(plain, compute_type="int8").logits(*BATCH), model.logits(*BATCH))
    with pytest.raises(ValueError, match=r'load: compute_type must be "int8", which .* is frozen in, got "float32"'):
        dg.load(frozen, compute_type="float32")
    with pytest.raises(ValueError, match=r"load: compute_type must be one of default, int8, bfloat16.*, got 'x'"):
        dg.load(plain, compute_type="x")
    values = json.loads((frozen / "config.json").read_text())
    (frozen / "config.json").write_text(json.dumps(values | {"frozen": "int4"}))
    with pytest.raises(ValueError, match=r"config.json: .*frozen must be one of int8, bfloat16, float32, got 'int4'"):
        dg.load(frozen)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_where_no_order_is_faster_the_plain_weight_is_read(monkeypatch, tmp_path, dtype):
    """As on CUDA. The logits are rounded to bfloat16 then."""
    model = translator()
    expected = copy.deepcopy(model).freeze(dtype).logits(*BATCH)
    monkeypatch.setattr(_core, "pack_weight", lambda weight, out: None)
    monkeypatch.setattr(_core, "packed_weight_size", lambda shape, dtype, device: 0)
    model.freeze(dtype).save(tmp_path)
    np.testing.assert_allclose(model.logits(*BATCH), expected, rtol=1e-5, atol=0.02 if dtype == "bfloat16" else 1e-6)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(*BATCH), model.logits(*BATCH))
    assert model.frozen == dtype


def test_int8_is_for_the_cpu():
    model = translator().to("test")
    with pytest.raises(ValueError, match=r'freeze: dtype must be "bfloat16" or "float32" on test, got "int8"'):
        model.freeze("int8")
    assert model.frozen is None


def test_freeze_folder(tmp_path):
    """The tokenizer and the settings of the task come along."""
    folder, output = tmp_path / "model", tmp_path / "int8"
    model = translator()
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "task.json").write_text('{"task": "translate"}')
    model.save(folder, beside=["tokenizer.json"])
    freeze_folder(folder, output, "int8")
    assert sorted(path.name for path in output.iterdir()) == [
        "config.json",
        "model.safetensors",
        "task.json",
        "tokenizer.json",
    ]
    assert (output / "task.json").read_bytes() == (folder / "task.json").read_bytes()
    np.testing.assert_array_equal(dg.load(output).logits(*BATCH), model.freeze("int8").logits(*BATCH))
    freeze_folder(folder, output, "int8")  # again
    with pytest.raises(ValueError, match=r"freeze: output must be another folder than .*model"):
        freeze_folder(folder, folder, "int8")
    model = translator()
    model.save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"freeze: output must not hold a model that can be trained, as .*other does"):
        freeze_folder(folder, tmp_path / "other", "int8")
    assert dg.load(tmp_path / "other").frozen is None
    with pytest.raises(ValueError, match=r"freeze: compute_type must be one of int8, bfloat16, float32, got .default."):
        freeze_folder(folder, output, "default")
