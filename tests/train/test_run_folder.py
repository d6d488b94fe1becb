"""The output folder: who may write in it, and what a run replaces."""

import json
import multiprocessing
import os
import signal

import pytest
from dragoman import Trainer, Transformer
from dragoman.data.shards import write_shards
from dragoman.train.folder import RunFolder, check_folder
from dragoman.train.store import RunStore
from dragoman.train.task import Later
from dragoman.train.translation import Translation
from toy_runs import model_of

OPTIONS = {"batch_tokens": 64, "warmup": 1, "lr": 1e-2, "log_interval": 1, "max_steps": 2}
pytestmark = pytest.mark.usefixtures("one_thread")


def fit(folder, pairs, *, resume=False, overwrite=False, **options):
    return Trainer(model_of(), output=folder, **OPTIONS | options).fit(pairs, resume=resume, overwrite=overwrite)


def files_of(folder):
    """Every file with its bytes, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


@pytest.mark.parametrize(
    "names, reason",
    [
        (["config.json"], "holds a model, but no run that resume=True .*; overwrite=True replaces it"),
        (["tokenizer.json"], "holds a model"),
        (["model.safetensors.index.json", "model-1-of-1.safetensors"], "holds a model"),
        (["model.safetensors", "config.json", "log.jsonl", "loss.png"], "holds a model"),  # as the demo leaves it
        (["log.jsonl"], r"holds files that are not of a run \(log.jsonl\), .* resume=True; .* overwrite=True"),
        (["train.toml"], r"holds files that are not of a run \(train.toml\)"),
        (["data/data.json"], r"holds files that are not of a run \(data\)"),
        (["data/train.en"], r"holds files that are not of a run \(data\)"),
        (["checkpoints/best.pt"], r"holds files that are not of a run \(checkpoints\)"),
        (["notes.txt", "thesis.tex"], r"holds files that are not of a run \(notes.txt\)"),
    ],
)
def test_what_is_there_is_not_replaced_unasked(names, reason, pairs, tmp_path):
    put(tmp_path, *names)
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path}: {reason}"):
        fit(tmp_path, pairs)
    with pytest.raises(ValueError, match=r"checkpoints: no checkpoint to resume from"):
        fit(tmp_path, pairs, resume=True)
    assert files_of(tmp_path) == before
    fit(tmp_path, pairs, overwrite=True)
    now = files_of(tmp_path)
    kept = set(before) - {"model.safetensors", "config.json", "log.jsonl", "train.toml", "tokenizer.json"}
    kept.discard("model.safetensors.index.json")  # it would win over the new weights
    assert {name: now[name] for name in kept} == {name: before[name] for name in kept}
    assert "tokenizer.json" not in now  # the new model is of ids
    assert len(now["log.jsonl"].splitlines()) == 2


@pytest.mark.parametrize("names", [[], [".gitkeep"], ["data/source.ids", "data/.dragoman-0123"]])
def test_a_folder_without_anything_of_value_is_taken(names, pairs, tmp_path):
    put(tmp_path, *names)
    fit(tmp_path, pairs)


def test_token_ids_are_taken(pairs, tmp_path):
    text = tmp_path / "text"
    text.write_text("x\n")
    columns = {"source": [[5, 2]], "target": [[5]]}
    write_shards(tmp_path / "out" / "data", {"x": text}, {}, lambda: [0], lambda block: columns)
    fit(tmp_path / "out", pairs)


def test_a_run_is_resumed_or_replaced_but_not_mixed(pairs, tmp_path):
    fit(tmp_path, pairs, tensorboard=True, max_steps=4, average=5, checkpoint_every=1)
    put(tmp_path, "tensorboard/notes")
    before = files_of(tmp_path)
    for steps in (2, 9):
        with pytest.raises(ValueError, match="holds a training run; resume=True goes on with it, overwrite=True"):
            fit(tmp_path, pairs, max_steps=steps)
    assert files_of(tmp_path) == before
    fit(tmp_path, pairs, overwrite=True)
    now = files_of(tmp_path)
    assert [name for name in now if name.startswith("checkpoints")] == ["checkpoints/stop-00000002.safetensors"]
    assert [name for name in now if name.startswith("tensorboard")] == ["tensorboard/notes"]
    assert [json.loads(line)["step"] for line in now["log.jsonl"].splitlines()] == [1, 2]
    fit(tmp_path, pairs, resume=True, max_steps=3)
    with pytest.raises(ValueError, match="resume=True and overwrite=True must not be given together"):
        fit(tmp_path, pairs, resume=True, overwrite=True)


def test_a_finished_model_whose_checkpoints_were_deleted_stays(pairs, tmp_path):
    fit(tmp_path, pairs)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    before = files_of(tmp_path)
    for resume, reason in ((False, "holds a model"), (True, "no checkpoint to resume from")):
        with pytest.raises(ValueError, match=reason):
            fit(tmp_path, pairs, resume=resume)
    assert files_of(tmp_path) == before


def test_a_run_that_was_killed_before_its_first_step_keeps_no_run_out(pairs, tmp_path, monkeypatch):
    for k, (owner, broken) in enumerate(((RunStore, "_write_files"), (Transformer, "loss"))):
        with monkeypatch.context() as patch:
            patch.setattr(owner, broken, lambda *arguments: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                fit(tmp_path / str(k), pairs)
        assert "checkpoints/stop-00000000.safetensors" in files_of(tmp_path / str(k))
        fit(tmp_path / str(k), pairs, max_steps=1)


def test_a_run_that_was_killed_before_its_model_was_written_resumes(pairs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "_write_files", lambda store: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(tmp_path, pairs)
    assert "config.json" not in files_of(tmp_path)
    fit(tmp_path, pairs, resume=True)
    assert {"config.json", "model.safetensors"} <= set(files_of(tmp_path))


def test_a_refused_run_leaves_no_trace(pairs, tmp_path):
    for wrong, message in (({"batch_tokens": 3}, "more than batch_tokens=3"), ({"max_length": 1}, "no pairs are left")):
        with pytest.raises(ValueError, match=message):
            fit(tmp_path / "new", pairs, **wrong)
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        fit(tmp_path / "new", pairs, resume=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="needs epochs or max_steps"):
        Trainer(model_of(), output=tmp_path / "new", schedule="cosine", max_minutes=1)


def test_data_are_made_once_the_folder_is_held(pairs, tmp_path):
    made = []

    def data():
        with pytest.raises(ValueError, match=f"another run is at work here .process {os.getpid()} on "):
            check_folder(tmp_path, resume=False, overwrite=True)
        made.append(1)
        return pairs

    fit(tmp_path, Later(data))
    with pytest.raises(ValueError, match="holds a training run"):
        fit(tmp_path, Later(data))
    with pytest.raises(ValueError, match="seed must be the same to resume, was 0, got 1"):
        fit(tmp_path, Later(data), resume=True, seed=1)  # what options tell is told before the data are read
    with pytest.raises(TypeError, match=r"train must be a list of pairs, got int"):
        fit(tmp_path, Later(lambda: 3), resume=True)
    assert made == [1]
    assert not list(tmp_path.glob(".*"))


def hold(path, connection):
    with RunFolder(path):
        connection.send("held")
        connection.recv()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_run_leaves_no_lock(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "held"
    for resume, overwrite in ((False, False), (False, True)):
        with pytest.raises(ValueError, match=rf"{tmp_path}: another run is at work here \(process {process.pid} on"):
            check_folder(tmp_path, resume=resume, overwrite=overwrite)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    check_folder(tmp_path, resume=False, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_remarks_come_from_the_task(tmp_path, pairs, capsys):
    class Remarks(Translation):
        def remarks(self):
            return ["mind the gap"]

    Trainer(model_of(), task=Remarks(), **OPTIONS).fit(pairs)
    assert capsys.readouterr().err.count("mind the gap\n") == 1
