"""Runs of `dragoman train`: what is lost, what is silent, what is mixed up."""

import json
import random
import signal
import subprocess
import sys
import time

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.train.checkpoint import CheckpointFolder

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    source = ["".join(draw.choices("abc", k=5)) for _ in range(40)]
    (folder / "en").write_text("".join(f"{line}\n" for line in source))
    (folder / "de").write_text("".join(f"{line.upper()}\n" for line in source))
    return folder


def arguments(data, output, *more, source="en", target="de"):
    files = [f"--source={data / source}", f"--target={data / target}", f"--output={output}"]
    return ["train", *files, "--vocab-size=64", "--warmup=1", "--threads=1", *more]


def train(data, output, *more, **files):
    return main(arguments(data, output, *more, **files))


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def strict(text):
    """A line of JSON, without the words that JSON has not."""

    def refuse(word):
        raise AssertionError(f"the log holds {word}")

    return json.loads(text, parse_constant=refuse)


def log_of(folder):
    return [strict(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_refused_run_changes_nothing(data, tmp_path, capsys):
    output = tmp_path / "out"
    assert train(data, output, "--steps=2") == 0
    before = files_of(output)
    for more, files, message in (
        (["--steps=4"], {}, "holds a training run; --resume goes on with it, --overwrite replaces it"),
        (["--overwrite", "--schedule=cosine", "--minutes=1"], {}, "needs --epochs or --steps"),
        (["--overwrite", "--batch-tokens=3"], {}, "more than --batch-tokens 3"),
        (["--overwrite", "--resume"], {}, "--resume and --overwrite must not be given together"),
        (["--resume", "--steps=4", "--seed=1"], {"source": "de", "target": "en"}, "--seed must be the same to resume"),
    ):
        assert train(data, output, *more, **files) == 2
        assert message in capsys.readouterr().err
        assert files_of(output) == before
    assert train(data, output, "--steps=1", "--overwrite") == 0
    assert "steps = 1\n" in (output / "train.toml").read_text()
    assert "overwrite" not in (output / "train.toml").read_text()
    assert [record["step"] for record in log_of(output)] == [1]


def test_resume_refuses_lines_in_another_order(data, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for side in ("en", "de"):  # all lines have one length, and pairs stay pairs
        (other / side).write_text("".join(reversed((data / side).read_text().splitlines(True))))
    assert train(data, tmp_path / "out", "--steps=2", "--tokenizer=char") == 0
    for folder, files in ((other, {}), (data, {"source": "de", "target": "en"})):
        assert train(folder, tmp_path / "out", "--steps=3", "--resume", **files) == 2
        assert ": the data must be the same to resume, got other ids in source" in capsys.readouterr().err
    assert train(data, tmp_path / "out", "--steps=3", "--resume") == 0


def test_a_live_run_outlives_its_reader_and_a_second_run_and_saves_when_its_terminal_closes(data, tmp_path, capsys):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "dragoman", *arguments(data, output, "--minutes=5", "--log-interval=1")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert b"pairs in" in process.stdout.readline()
        process.stdout.close()  # as `| head -1` does

        def steps():
            path = output / "log.jsonl"
            return path.read_text().count("\n") if path.exists() else 0

        def wait(count):
            until = time.monotonic() + 60
            while steps() < count:
                assert process.poll() is None, "the run has ended"
                assert time.monotonic() < until
                time.sleep(0.02)

        wait(3)
        for more, files in ((["--overwrite"], {}), (["--resume"], {"source": "de", "target": "en"}), ([], {})):
            assert train(data, output, *more, **files) == 2
            assert f"{output}: another run is at work here (process {process.pid} on" in capsys.readouterr().err
        wait(steps() + 30)  # some epochs
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    newest = CheckpointFolder(output / "checkpoints", 8).newest()
    assert int(newest.stem.partition("-")[2]) == log_of(output)[-1]["step"]
    assert train(data, output, "--steps=1", "--resume") == 0


def test_nohup_goes_on(data, tmp_path):
    code = (
        "import os, signal, sys; from dragoman.cli import main; from dragoman.train.loop import TrainingRun\n"
        "real, calls = TrainingRun._step, []\n"
        "def step(run, *batches):\n"
        "    calls.append(os.kill(os.getpid(), signal.SIGHUP)); real(run, *batches)\n"
        "TrainingRun._step = step\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(main(sys.argv[1:]) or len(calls) != 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments(data, tmp_path / "out", "--steps=2")], check=False)
    assert done.returncode == 0


def test_a_short_run_ends_with_its_loss(data, tmp_path, capsys):
    assert train(data, tmp_path / "out", "--steps=2", "--batch-tokens=64") == 0
    (record,) = log_of(tmp_path / "out")
    assert (record["step"], record["partial"]) == (2, True)
    assert f"loss {record['loss']:.3f}" in capsys.readouterr().err
    # The line of an interval that goes on is replaced: the mean of steps 1 to 3, not 3 alone.
    assert train(data, tmp_path / "out", "--steps=3", "--batch-tokens=64", "--resume", "--log-interval=3") == 0
    whole = tmp_path / "whole"
    assert train(data, whole, "--steps=3", "--batch-tokens=64", "--log-interval=3") == 0
    pick = [[(line["step"], line.get("loss")) for line in log_of(folder)] for folder in (tmp_path / "out", whole)]
    assert pick[0] == pick[1]


@pytest.mark.parametrize("best_by", ["loss", "bleu", None])
def test_a_run_that_diverges_is_no_success(best_by, data, tmp_path, capsys):
    pytest.importorskip("sacrebleu")
    output = tmp_path / "out"
    valid = [f"--valid-source={data / 'en'}", f"--valid-target={data / 'de'}", f"--best-by={best_by}"]
    assert train(data, output, "--lr=1e30", "--steps=3", *(valid if best_by else [])) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == (
        "dragoman train: training has diverged: the final model has no finite loss "
        f"{'in validation' if best_by else 'on a batch of training'}; a lower lr may help"
    )
    records = log_of(output)
    if best_by:
        assert "validation failed: the model's results are not finite" in error
        measured = [record for record in records if "valid_loss" in record]
        assert measured
        assert {record["valid_loss"] for record in measured} == {None}
        assert (measured[0].get("valid_bleu", 0) is None) == (best_by == "bleu")
    assert main(["info", str(output)]) == 0  # the model of the last good checkpoint


def test_a_warm_up_that_is_too_long_is_cut_and_that_is_said_once(data, tmp_path, capsys):
    said = "warm-up in 2 steps, half of the run, instead of 2,000"
    more = ["--batch-tokens=64", "--log-interval=1", "--lr=1e-3", "--warmup=2000"]
    assert train(data, tmp_path / "out", "--steps=4", *more) == 0
    assert capsys.readouterr().err.count(said) == 1
    assert max(record.get("lr", 0) for record in log_of(tmp_path / "out")) == 1e-3
    assert train(data, tmp_path / "out", "--steps=4", *more, "--resume") == 0
    assert "warm-up" not in capsys.readouterr().err
    assert train(data, tmp_path / "short", "--steps=1", "--schedule=cosine", *more) == 0
    assert log_of(tmp_path / "short")[0]["lr"] == 1e-3


def test_options_that_a_resumed_run_changes_are_named(data, tmp_path, capsys):
    more = ["--batch-tokens=64", "--schedule=linear"]
    assert train(data, tmp_path / "out", "--steps=2", "--ema=0.9", "--weight-decay=0.1", *more) == 0
    capsys.readouterr()
    assert train(data, tmp_path / "out", "--steps=2", "--ema=0.9", "--weight-decay=0.1", *more, "--resume") == 0
    assert "other options" not in capsys.readouterr().err
    assert train(data, tmp_path / "out", "--steps=3", *more, "--resume") == 0
    assert (
        "resumed with other options than before: weight_decay 0.0 (before: 0.1); ema none (before: 0.9); "
        "end of the schedule 3 (before: 2)\n"
    ) in capsys.readouterr().err
    assert train(data, tmp_path / "out", "--steps=4", "--ema=0.5", "--final=ema", *more, "--resume") == 0
    assert "ema 0.5 (before: none); " in capsys.readouterr().err


def test_data_that_look_wrong_are_named_once(tmp_path, capsys):
    draw = random.Random(1)
    letters = [chr(0x4E00 + i) for i in range(2000)]
    (tmp_path / "zh").write_text("".join("".join(draw.choices(letters, k=8)) + "\n" for _ in range(40)))
    words = ["the vocabulary lacks most characters", "in 40 of 40 pairs, source and target are the same text"]
    output = tmp_path / "out"
    assert train(tmp_path, output, "--steps=1", source="zh", target="zh") == 0
    error = capsys.readouterr().err
    assert [error.count(word) for word in words] == [1, 1]
    assert train(tmp_path, output, "--steps=1", "--resume", source="zh", target="zh") == 0
    assert words[0] not in capsys.readouterr().err


def test_a_refused_run_leaves_no_folder(data, tmp_path, capsys):
    (data / "short").write_text("x\n")
    assert train(data, tmp_path / "out", "--steps=1", target="short") == 2
    assert "they must pair up" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_without_faults_are_not_remarked_on(data, tmp_path, capsys):
    assert train(data, tmp_path / "out", "--steps=1") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # what is trained on, and the loss
    assert lines[0].startswith("40 pairs in 1 batch, 0 left out ")


def test_validation_pairs_that_are_too_long_are_counted(data, tmp_path, capsys):
    (tmp_path / "en").write_text("a b c\n" + "a " * 300 + "\n")
    (tmp_path / "de").write_text("x y z\nx\n")
    valid = [f"--valid-source={tmp_path / 'en'}", f"--valid-target={tmp_path / 'de'}"]
    assert train(data, tmp_path / "out", "--steps=4", "--checkpoint-every=1", *valid) == 0
    error = capsys.readouterr().err
    assert error.count("validation left out 1 of 2 pairs, which are longer than max_length=256") == 1


def test_sides_that_differ_and_a_start_of_its_own(data, tmp_path, capsys):
    """By command line: trained, resumed, translated, evaluated and explained from the folder."""
    own = ["start_id=[0, 7]", "d_model=12", "num_heads=2", "d_ff=8", "num_encoder_layers=1", "num_decoder_layers=1"]
    own += ["tie_embeddings=two", "encoder={d_model=8, num_heads=4, kv_heads=2}"]
    output, steps = tmp_path / "model", ["--lr=1e-3", "--batch-tokens=200", "--checkpoint-every=1"]
    assert train(data, output, "--steps=1", *steps, "--model-option", *own) == 0
    assert train(data, output, "--steps=2", *steps, "--model-option", *own, "--resume") == 0
    config = dg.load(output).config
    assert config.start_id == (0, 7) and config.encoder == {"d_model": 8, "num_heads": 4, "kv_heads": 2}
    capsys.readouterr()
    pair = [f"--source={data / 'en'}", f"--target={data / 'de'}"]
    assert main(["evaluate", str(output), *pair, "--max-length=4", "--threads=1"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["sentences"] == 40
    assert main(["explain", str(output), "abc", f"--output={tmp_path / 'page.html'}"]) == 0
    assert isinstance(dg.Translator.load(output)("abc", max_length=4), str)
    assert train(data, tmp_path / "other", "--model-option", "encoder={d_modl=8}") == 2
    message = "encoder must hold only fields in which it may differ, got 'd_modl'; did you mean d_model?"
    assert message in capsys.readouterr().err
