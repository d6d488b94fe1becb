"""Folders of models: registered classes, folders from before models had names, widened and sharded weights."""

import dataclasses
import errno
import json
import os
from dataclasses import dataclass

import dragoman as dg
import ml_dtypes
import numpy as np
import pytest
from dragoman import _core, nn
from dragoman.files import SafetensorsFile, write_arrays
from dragoman.generate import generate
from safetensors.numpy import load_file, save_file

CONFIG = dg.TransformerConfig(
    vocab_size=11, d_model=4, num_heads=2, d_ff=6, num_encoder_layers=1, num_decoder_layers=2, norm_first=True
)
BATCH = [[5, 6, 7], [8]], [[1, 9], [1, 4, 5]]


@pytest.fixture
def folder(tmp_path):
    dg.Transformer(CONFIG).save(tmp_path)
    return tmp_path


@dataclass(frozen=True, kw_only=True)
class BagConfig(dg.models.ModelConfig):
    vocab_size: int
    features: int = 8
    max_source_length: int | None = None


@dg.models.register("bag")
class Bag(dg.models.Model):
    """Every target token is guessed from the source token at its place: a model that is no Transformer."""

    config_class = BagConfig

    def __init__(self, config, compute_dtype="float32"):
        super().__init__(config, compute_dtype)
        self.embedding = nn.Embedding(config.vocab_size, config.features)
        self.output = nn.Linear(config.features, config.vocab_size)
        self.output.weight = self.embedding.weight  # made, then tied: the first one goes

    def hidden(self, src_batch):
        sequences = _core.Sequences([len(ids) for ids in src_batch])
        return self.embedding([id for ids in src_batch for id in ids], sequences, dtype=self.dtype)

    def __call__(self, src_batch):
        return self.output(self.hidden(src_batch))

    def loss(self, src_batch, tgt_batch, label_smoothing=0.0, num_targets=None):
        ids = [id for tgt in tgt_batch for id in (*tgt, 2)]
        options = {"label_smoothing": label_smoothing, "num_targets": num_targets}
        return self.output.cross_entropy(self.hidden(src_batch), ids, **options)

    def example_batch(self, tokens):
        return [[0] * tokens], [[0] * (tokens - 1)]


def test_a_users_model_is_trained_saved_and_loaded(tmp_path):
    model = Bag(BagConfig(vocab_size=7))
    pairs = [([3, 4, 2], [5, 6]), ([4, 2], [6]), ([3, 2], [5])]
    trainer = dg.Trainer(model, output=tmp_path / "run", max_steps=60, lr=0.1, warmup=1, batch_tokens=16)
    trainer.fit(pairs)
    loaded = dg.load(tmp_path / "run")
    assert type(loaded) is Bag and loaded.config == model.config and not loaded.training
    assert loaded.output.weight is loaded.embedding.weight
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"] == "bag"
    with loaded.inference():
        np.testing.assert_array_equal(loaded([[3, 4, 2]]).numpy().argmax(1), [5, 6, 2])
        assert loaded.loss([[3, 4, 2]], [[5, 6]]).item() < 0.2


def test_a_users_model_that_cannot_decode_is_refused_where_it_must():
    model = Bag(BagConfig(vocab_size=7))
    with pytest.raises(TypeError, match="generate: model must be an EncoderDecoder or a TextDecoder, got Bag"):
        generate(model, [[3]])
    with pytest.raises(TypeError, match="Translator: model must be an EncoderDecoder, got Bag"):
        dg.Translator(model, None)


def test_a_users_model_has_a_memory_plan():
    plan = Bag(BagConfig(vocab_size=100, features=64)).memory_plan(512)
    assert plan["parameters"] >= 4 * (100 * 64 + 100)
    assert plan["activations"] >= 4 * 512 * 64


def test_what_has_no_name_cannot_be_saved(tmp_path):
    class Unnamed(Bag):
        pass

    with pytest.raises(ValueError, match=r"save: Unnamed must be registered by dragoman\.models\.register"):
        Unnamed(BagConfig(vocab_size=7)).save(tmp_path)
    with pytest.raises(ValueError, match="Unnamed must be registered"):
        dg.Trainer(Unnamed(BagConfig(vocab_size=7)), output=tmp_path, lr=0.1, max_steps=1)
    assert not list(tmp_path.iterdir())


def test_register_checks_what_it_gets():
    register = dg.models.register
    with pytest.raises(ValueError, match="register: name must be free, got 'bag', which Bag has"):
        register("bag")(type("Other", (Bag,), {}))
    with pytest.raises(TypeError, match=r"register: the class must be a subclass of Model, got <class .*Linear"):
        register("linear")(nn.Linear)
    with pytest.raises(TypeError, match="register: config_class of Bare must be a subclass of ModelConfig"):
        register("bare")(type("Bare", (dg.models.Model,), {}))
    with pytest.raises(TypeError, match="register: name must be a str, got int"):
        register(3)
    assert register("bag")(Bag) is Bag


def test_a_config_of_another_class_is_refused():
    with pytest.raises(TypeError, match="Bag: config must be a BagConfig, got TransformerConfig"):
        Bag(CONFIG)


def test_a_model_alone_says_what_it_lacks():
    model = dg.models.Model(BagConfig(vocab_size=7))
    for method in (model, model.loss, model.attention_weights, model.example_batch):
        with pytest.raises(NotImplementedError, match="Model has no "):
            method([[1]])


def test_a_folder_from_before_models_had_names_opens(folder):
    path = folder / "config.json"
    expected = dg.load(folder).logits(*BATCH)
    values = json.loads(path.read_text())
    assert values.pop("model") == "encoder_decoder"
    path.write_text(json.dumps(values))
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")  # it knew no SHA-256, either
    loaded = dg.load(folder)
    assert type(loaded) is dg.Transformer and loaded.config == CONFIG
    np.testing.assert_array_equal(loaded.logits(*BATCH), expected)


@pytest.mark.parametrize("name", ["unheard-of", None, 3, ["bag"], {}])
def test_an_unknown_model_is_refused_by_name(folder, name):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": name}))
    with pytest.raises(ValueError, match=r"model must be one of .*bag.*encoder_decoder.*, got ") as caught:
        dg.load(folder)
    assert str(path) in str(caught.value) and repr(name) in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_weights_are_widened(folder, dtype):
    state = {name: array.astype(dtype) for name, array in dg.load(folder).state_dict().items()}
    path = folder / "model.safetensors"
    save_file(state, path)
    for name, array in dg.load(folder).state_dict().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, state[name].astype(np.float32))


def shard(folder, files=2):
    """Deals the weights of a folder out to several files, and removes the one they were in."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{i % files + 1:05}-of-{files:05}.safetensors" for i, name in enumerate(state)}
    for file in set(where.values()):
        save_file({name: np.array(array) for name, array in state.items() if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_sharded_weights(folder):
    expected = dg.load(folder).logits(*BATCH)
    where = shard(folder, 3)
    np.testing.assert_array_equal(dg.load(folder).logits(*BATCH), expected)
    name, file = next(iter(where.items()))
    state = load_file(folder / file)
    save_file({other: np.array(array) for other, array in state.items() if other != name}, folder / file)
    with pytest.raises(ValueError, match=rf"{file}: must hold '{name}', as model.safetensors.index.json says"):
        dg.load(folder)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        dg.load(folder)


@pytest.mark.parametrize(
    "weight_map", [None, [], "model", {"a": 3}, {"a": "../a.safetensors"}, {"a": ""}, {"a": ".."}, {}]
)
def test_a_bad_index_is_refused(folder, weight_map):
    shard(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        dg.load(folder)


def test_a_config_larger_than_its_weights_takes_no_memory(folder, monkeypatch):
    """A small folder once cost gigabytes before it was refused."""
    path = folder / "config.json"
    text = path.read_text()
    values = json.loads(text)
    made = []
    real = nn.Linear.__init__
    monkeypatch.setattr(nn.Linear, "__init__", lambda self, *a, **k: (made.append(a), real(self, *a, **k))[1])
    for changes in ({"d_model": 2**20}, {"num_decoder_layers": 10**8}, {"d_ff": 2**30}, {"vocab_size": 2**30}):
        path.write_text(json.dumps(values | changes))
        _core.reset_peak_memory_stats()
        before = dg.memory_stats()["allocated"]
        with pytest.raises(ValueError, match=r"does not fit model\.safetensors: a parameter of shape "):
            dg.load(folder)
        assert dg.memory_stats()["peak_allocated"] - before < 1 << 20
        assert len(made) < 200
        made.clear()
    path.write_text(text)
    dg.load(folder)


def test_weights_are_not_taken_with_the_config_of_another_model(folder, tmp_path):
    """Both files are whole and of one shape. Two renames lie between them, where a reader or a crash may come."""
    (tmp_path / "other").mkdir()
    dg.Transformer(dataclasses.replace(CONFIG, num_heads=1)).save(tmp_path / "other")
    for name in ("config.json", "model.safetensors"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(ValueError, match=r"config\.json: must be the file that model\.safetensors was saved with"):
            dg.load(folder)
        (folder / name).write_bytes(whole)
        dg.load(folder)


def test_a_save_that_fails_leaves_the_model_before(folder, tmp_path, monkeypatch):
    """Whichever of its system calls fails before the first rename. Between the two renames the folder is refused."""
    expected = dg.load(folder).logits(*BATCH)
    real, left = os.fsync, [0]

    def fsync(descriptor):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "no space")
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    for failing in (1, 2):  # of config.json, of the weights
        left[0] = failing
        with pytest.raises(OSError, match="no space"):
            dg.Transformer(dataclasses.replace(CONFIG, num_heads=1)).save(folder)
        np.testing.assert_array_equal(dg.load(folder).logits(*BATCH), expected)
        assert len(list(folder.iterdir())) == 2


def test_a_tokenizer_that_a_model_was_saved_with(folder):
    path = folder / "tokenizer.json"
    path.write_bytes(b"one")
    model = dg.load(folder)
    model.save(folder, beside=["tokenizer.json"])
    dg.load(folder)
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"tokenizer\.json: must be the file that model\.safetensors was saved with"):
        dg.load(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        dg.load(folder)
    model.save(folder)
    dg.load(folder)


def test_a_table_larger_than_the_weights_takes_no_memory():
    """The positions of a wide model are no parameters, and may be larger than all of a small file's."""
    with nn.init.skip_init(max_parameters=2, max_values=2**22):
        nn.SinusoidalPositionalEncoding(2**16)
        with pytest.raises(ValueError, match=r"a table of shape \(64, 65537\) is more than the stored weights hold"):
            nn.SinusoidalPositionalEncoding(2**16 + 1)


def header(fields, data=b""):
    text = json.dumps(fields).encode() if not isinstance(fields, bytes) else fields
    return len(text).to_bytes(8, "little") + text + data


FIELD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"1234567", "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        (header(b"{"), "not a safetensors file"),
        (header(b"[" * 100_000), "not a safetensors file"),
        (header([1]), "not a safetensors file"),
        (header({"a": 3}), "not a safetensors file"),
        (header({"a": FIELD | {"dtype": "F8_E4M3", "shape": [8]}}, b"x" * 8), "array 'a' must have a dtype .*F8_E4M3"),
        (header({"a": FIELD | {"dtype": []}}, b"x" * 8), "not a safetensors file"),
        (header({"a": FIELD | {"shape": [-2]}}, b"x" * 8), "not a safetensors file"),
        (header({"a": FIELD | {"shape": [2**40, 2**40]}}, b"x" * 8), "not a safetensors file"),
        (header({"a": FIELD | {"data_offsets": [0]}}, b"x" * 8), "not a safetensors file"),
        (header({"a": FIELD}, b"x" * 7), "not a safetensors file"),
        (header({"a": FIELD}, b"x" * 9), "not a safetensors file"),
        (header({"a": FIELD, "b": FIELD}, b"x" * 8), "not a safetensors file"),
    ],
    ids=range(15),
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)


def test_arrays_are_read_as_they_were_written(tmp_path, rng):
    path = tmp_path / "a.safetensors"
    shapes = {"matrix": (3, 5), "scalar": (), "empty": (0, 4), "vector": (7,)}
    for dtype in (np.float32, np.float64, np.float16, np.int8, np.uint16, np.int64):
        arrays = {name: (9 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
        write_arrays(path, arrays, {"format": "test"})
        file = SafetensorsFile(path)
        assert file.metadata == {"format": "test"}
        assert {name: (header.shape, header.dtype) for name, header in file.headers.items()} == {
            name: (array.shape, array.dtype) for name, array in arrays.items()
        }
        for name, array in arrays.items():
            read = file.array(name)
            assert read.dtype == dtype
            np.testing.assert_array_equal(read, array)
    write_arrays(path, {}, {})
    assert SafetensorsFile(path).headers == {}
