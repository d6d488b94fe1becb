import errno
import fcntl
import json
import os
import stat
import tracemalloc

import dragoman as dg
import numpy as np
import pytest
from dragoman.cli.output_file import OutputFile
from dragoman.files import atomic_write, write_arrays
from dragoman.train.averaging import ExponentialAverage, average_checkpoints
from dragoman.train.checkpoint import FORMAT, CheckpointFolder, load_checkpoint, read_state, save_checkpoint
from dragoman.train.folder import RunFolder
from safetensors.numpy import load_file, save
from toy_runs import CONFIG, model_of


class Arrays:
    """Replaces a model or an optimizer."""

    def __init__(self, **arrays):
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}

    def state_dict(self, *, copy=True):
        return self.arrays

    def load_state_dict(self, state):
        if state.keys() != self.arrays.keys():
            raise ValueError(f"load_state_dict: names {sorted(state)}")
        self.arrays = dict(state)


def of(value):
    return {"model": Arrays(w=np.full((2, 3), value, np.float32)), "optimizer": Arrays(step=np.array(7, np.int64))}


def model(**arrays):
    return {"model": Arrays(**arrays)}


def fail(*arguments, **keywords):
    raise OSError(28, "No space left on device")


class FailsAt:
    """Replaces the writing calls of `os`: the k-th call fails, and each write takes only a part."""

    def __init__(self, monkeypatch, k):
        self.k, self.calls = k, 0
        for name in ("open", "write", "fsync", "replace"):
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, real):
        def call(*arguments):
            self.calls += 1
            if self.calls == self.k:
                fail()
            if name == "write":
                return real(arguments[0], arguments[1][:300])
            return real(*arguments)

        return call


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file(broken, monkeypatch, tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space"):
            atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_checkpoint_is_not_lost_whichever_call_fails(monkeypatch, tmp_path):
    # Any call may fail when a disk is full. Then the newest checkpoint is the old one, or the whole new one.
    for k in range(1, 100):
        folder = CheckpointFolder(tmp_path / str(k), keep=1)
        folder.save(1, of(1), {"step": 1})
        with monkeypatch.context() as patch:
            failing, failed = FailsAt(patch, k), True
            try:
                folder.save(2, of(2), {"step": 2})
                failed = False
            except OSError as error:
                assert (error.errno, error.filename) == (28, str(folder.path(2)))
        parts = of(0)
        state = load_checkpoint(folder.newest(), parts)
        np.testing.assert_array_equal(parts["model"].arrays["w"], state["step"])
        assert not [name for name in os.listdir(folder.folder) if name.startswith(".")]
        if not failed:
            assert failing.calls == k - 1 > 6
            assert names(folder) == ["step-00000002"]
            return
    raise AssertionError("no write went through")


def test_a_write_of_nothing_is_an_error(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *arguments: 0)
        with pytest.raises(OSError, match="nothing could be written"):
            atomic_write(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_goes_at_the_next_save(tmp_path):
    left, held = tmp_path / ".dragoman-0123456789abcdef", tmp_path / ".dragoman-fedcba9876543210"
    left.write_bytes(b"half")
    with held.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another writer at work
        CheckpointFolder(tmp_path, 1).save(1, of(1), {})
    assert {path.name for path in tmp_path.iterdir()} == {held.name, "step-00000001.safetensors"}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(monkeypatch, tmp_path, number):
    def no_locks(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (tmp_path / ".dragoman-0123456789abcdef").write_bytes(b"half")  # of a writer that may be alive
    atomic_write(tmp_path / "file", b"x")
    with OutputFile(tmp_path / "output") as file:
        file.write(b"y")
        file.commit()
    assert {path.name for path in tmp_path.iterdir()} == {".dragoman-0123456789abcdef", "file", "output"}
    with pytest.warns(UserWarning, match="run: its file system has no locks"), RunFolder(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_the_data_is_on_disk_before_the_name(monkeypatch, tmp_path):
    # If a rename reaches the disk before the data, a power cut leaves an empty file.
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    atomic_write(tmp_path / "file", b"x")
    assert calls == ["fsync", "replace", "fsync"]


def test_the_mode_follows_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_round_trip(tmp_path):
    path = tmp_path / "c.safetensors"
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2).T  # not contiguous
    state = {"step": 3, "random": {"seed": 2**63, "counter": [1, 2]}}
    save_checkpoint(path, {"model": Arrays(w=matrix), "optimizer": Arrays(step=np.array(7))}, state)
    assert read_state(path) == state
    assert load_file(path)["optimizer.step"] == 7
    parts = of(0)
    assert load_checkpoint(path, parts) == state
    np.testing.assert_array_equal(parts["model"].arrays["w"], matrix)
    assert parts["optimizer"].arrays["step"].shape == ()


def test_load_names_a_bad_file(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, of(1), {})
    whole = path.read_bytes()
    for broken, message in [
        (b"", "not a safetensors file"),
        (whole[:20], "not a safetensors file"),
        (b"\xff" * 100, "not a safetensors file"),
        (whole[:-1], "not a safetensors file"),
    ]:
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"c\.safetensors: {message}"):
            read_state(path)


def test_every_flipped_byte_is_found(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, of(1), {"step": 3})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"c\.safetensors: "):
            load_checkpoint(path, of(0))


@pytest.mark.parametrize(
    "metadata, message",
    [
        ({}, "field format must be .*, got None"),
        ({"format": "pt"}, "field format must be .*, got 'pt'"),
        ({"format": FORMAT}, "field state: must be JSON"),
        ({"format": FORMAT, "state": "[1]"}, "field state: must hold an object, got list"),
    ],
)
def test_load_names_a_bad_field(metadata, message, tmp_path):
    write_arrays(tmp_path / "c.safetensors", {"model.w": np.zeros(2)}, metadata, digest=True)
    with pytest.raises(ValueError, match=rf"c\.safetensors: metadata {message}"):
        read_state(tmp_path / "c.safetensors")


def test_load_names_a_file_without_digest(tmp_path):
    write_arrays(tmp_path / "c.safetensors", {"model.w": np.zeros(2)}, {"format": FORMAT})
    with pytest.raises(ValueError, match=r"c\.safetensors: metadata field sha256 must hold 64 hexadecimal digits"):
        read_state(tmp_path / "c.safetensors")


def test_files_are_those_of_the_library(tmp_path):
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(3, 2).T,  # not contiguous
        "a": np.zeros((0, 3), np.float32),
        "step": np.array(7),
        'quote " and ü': np.ones(3, np.uint8),
        "half": np.ones((1, 1, 1), np.float16),
    }
    write_arrays(tmp_path / "ours", arrays, {"format": 'a "b" ü'})
    contiguous = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    assert (tmp_path / "ours").read_bytes() == save(contiguous, metadata={"format": 'a "b" ü'})


@pytest.mark.cpu  # from another device, a save copies everything first
def test_a_save_needs_no_memory(tmp_path):
    model = dg.Transformer(dg.TransformerConfig.tiny(vocab_size=2000))
    parts = {"model": model, "optimizer": dg.optim.AdamW(model, 1e-3), "ema": ExponentialAverage(model, 0.9)}
    tracemalloc.start()
    try:
        save_checkpoint(tmp_path / "c.safetensors", parts, {})
        model.save(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < model.num_parameters()  # 20 times as many bytes were written
    saved = load_file(tmp_path / "c.safetensors")
    for name, array in model.state_dict().items():
        assert saved[f"model.{name}"].tobytes() == array.tobytes()


ATTENTION = [f"{layer}_proj.{name}" for layer in ("q", "k", "v", "out") for name in ("weight", "bias")]
FEED_FORWARD = [f"feed_forward.linear{i}.{name}" for i in (1, 2) for name in ("weight", "bias")]
FORMAT_2_ORDER = [  # of the parameters of one layer each, when files of format 2 were written
    "src_embedding.weight",
    *(f"encoder.layers.0.self_attention.{name}" for name in ATTENTION),
    *(f"encoder.layers.0.norm1.{name}" for name in ("weight", "bias")),
    *(f"encoder.layers.0.{name}" for name in FEED_FORWARD),
    *(f"encoder.layers.0.norm2.{name}" for name in ("weight", "bias")),
    *(f"decoder.layers.0.self_attention.{name}" for name in ATTENTION),
    *(f"decoder.layers.0.norm1.{name}" for name in ("weight", "bias")),
    *(f"decoder.layers.0.cross_attention.{name}" for name in ATTENTION),
    *(f"decoder.layers.0.norm2.{name}" for name in ("weight", "bias")),
    *(f"decoder.layers.0.{name}" for name in FEED_FORWARD),
    *(f"decoder.layers.0.norm3.{name}" for name in ("weight", "bias")),
]


def write_format_2(path, arrays, state):
    """The form in which each moment was one array: backward order, every parameter on a multiple of 16 floats."""
    old = {name: array for name, array in arrays.items() if not name.startswith("optimizer.")}
    old["optimizer.step"] = arrays["optimizer.step"]
    for kind in ("mean", "variance"):
        pieces = []
        for name in reversed(FORMAT_2_ORDER):
            piece = arrays[f"optimizer.{kind}.{name}"].ravel()
            pieces += [piece, np.zeros(-piece.size % 16, np.float32)]
        old[f"optimizer.{kind}"] = np.concatenate(pieces)
    write_arrays(path, old, {"format": "dragoman.checkpoint.2", "state": json.dumps(state)}, digest=True)


def trained(frozen=(), resume=None):
    """A model, its optimizer and average, after two steps or as a checkpoint says."""
    model = model_of(config=CONFIG.with_dropout(0.0))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name not in frozen
    optimizer, ema = dg.optim.AdamW(model, 1e-2), ExponentialAverage(model, 0.5)
    parts = {"model": model, "optimizer": optimizer, "ema": ema}
    if resume is None:
        train_more(parts)
    else:
        load_checkpoint(resume, parts)
    return parts


def train_more(parts):
    for _ in range(2):
        parts["model"].loss([[4, 5, 2], [6, 2]], [[4, 5], [6, 7, 8]]).backward()
        parts["optimizer"].step()
        parts["ema"].update(parts["optimizer"].step_count)


def bits(parts):
    return {
        f"{part}.{name}": array.tobytes() for part, owner in parts.items() for name, array in owner.state_dict().items()
    }


@pytest.mark.parametrize("frozen", [(), tuple(name for name in FORMAT_2_ORDER if name.startswith("encoder"))])
def test_a_run_that_trains_all_or_some_resumes_to_the_very_bits(frozen, tmp_path):
    path = tmp_path / "c.safetensors"
    parts = trained(frozen)
    save_checkpoint(path, parts, {})
    saved = load_file(path)
    for name, parameter in parts["model"].named_parameters():
        assert saved[f"model.{name}"].shape == parameter.shape, "the whole model is saved, frozen or not"
        for array in (f"optimizer.mean.{name}", f"optimizer.variance.{name}", f"ema.{name}"):
            assert (array in saved) == (name not in frozen)
    train_more(parts)
    resumed = trained(frozen, resume=path)
    train_more(resumed)
    assert bits(resumed) == bits(parts)


def test_a_checkpoint_of_another_subset_is_refused(tmp_path):
    """The two projections of one layer have the same size."""
    path = tmp_path / "c.safetensors"
    first, second = (f"encoder.layers.0.self_attention.{name}_proj.weight" for name in ("q", "k"))
    save_checkpoint(path, trained([first]), {})
    with pytest.raises(ValueError, match=rf"c\.safetensors: AdamW: the state must hold mean\.{first}, which this"):
        trained([second], resume=path)


def test_checkpoints_of_format_2_resume_where_all_is_trained(tmp_path):
    parts = trained()
    save_checkpoint(tmp_path / "new", parts, {})
    write_format_2(tmp_path / "old", load_file(tmp_path / "new"), {"step": 2})
    assert read_state(tmp_path / "old") == {"step": 2}
    assert bits(trained(resume=tmp_path / "old")) == bits(parts)
    with pytest.raises(ValueError, match=r"old: AdamW: .* fits only where all parameters are trained, and src_emb"):
        trained(["src_embedding.weight"], resume=tmp_path / "old")


def test_load_names_the_file_that_does_not_fit(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", model(v=np.zeros(1)), {})
    with pytest.raises(ValueError, match=r"c\.safetensors: load_state_dict: names \['v'\]"):
        load_checkpoint(tmp_path / "c.safetensors", of(1))


def test_average(tmp_path, rng):
    arrays = rng.standard_normal((3, 40, 5), np.float32)
    paths = [tmp_path / f"{i}" for i in range(3)]
    for path, array in zip(paths, arrays, strict=True):
        save_checkpoint(path, {"model": Arrays(w=array), "optimizer": Arrays(mean=array)}, {})
    average = average_checkpoints(paths)
    assert average.keys() == {"w"}
    assert average["w"].dtype == np.float32
    np.testing.assert_array_equal(average["w"], arrays.astype(np.float64).mean(axis=0).astype(np.float32))


def test_average_names_the_file_that_differs(tmp_path):
    save_checkpoint(tmp_path / "a", model(w=np.zeros(2)), {})
    save_checkpoint(tmp_path / "b", model(w=np.zeros(3)), {})
    save_checkpoint(tmp_path / "c", model(v=np.zeros(2)), {})
    with pytest.raises(ValueError, match=r"b: array model\.w must have shape \(2,\), got \(3,\)"):
        average_checkpoints([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match=r"c: array model\.[vw] is not in every checkpoint"):
        average_checkpoints([tmp_path / "a", tmp_path / "c"])


def names(folder):
    return [path.stem for path in folder.files()]


def test_folder_keeps_the_last_regular_ones(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for step in (5, 10, 100_000_000):
        folder.save(step, of(step), {"step": step})
    assert names(folder) == ["step-00000010", "step-100000000"]
    folder.save(100_000_003, of(0), {"step": 0}, regular=False)
    assert names(folder) == ["step-00000010", "step-100000000", "stop-100000003"]
    folder.save(100_000_005, of(0), {"step": 0})
    assert names(folder) == ["step-100000000", "step-100000005"]


def test_folder_keeps_the_best_one_and_none_of_a_later_step(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (5, 10, 15, 20, 25):
        folder.save(step, of(step), {}, best=10 if step > 5 else 5)
    assert names(folder) == ["step-00000010", "step-00000020", "step-00000025"]
    folder.save(12, of(12), {}, best=10)  # the run went back: 20 and 25 were damaged, say
    assert names(folder) == ["step-00000010", "step-00000012"]
    folder.save(14, of(14), {}, best=14)
    assert names(folder) == ["step-00000012", "step-00000014"]


def test_folder_averages_none_of_the_first_half(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=8)
    for step in range(1, 6):
        folder.save(step, of(step), {})
    assert [path.stem for path in folder.to_average()] == [f"step-{step:08d}" for step in (3, 4, 5)]


def test_newest_passes_over_a_damaged_file(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    for step in (1, 2):
        folder.save(step, of(step), {"step": step})
    path = folder.path(2)
    whole = path.read_bytes()
    for broken in (whole[:-4], whole[:-1] + b"x"):
        path.write_bytes(broken)
        assert json.dumps(read_state(folder.newest())) == '{"step": 1}'
    with pytest.raises(ValueError, match="empty: no checkpoint to resume from"):
        CheckpointFolder(tmp_path / "empty", 1).newest()
