"""The command line with the task of summaries: train, evaluate, predict, and what is said without rouge-score."""

import json
import sys
from pathlib import Path

import dragoman as dg
import pytest
from dragoman.cli import main
from dragoman.train.tasks import load_task

pytest.importorskip("tokenizers")

SMALL = [
    "--threads=1", "--vocab-size=64", "--tokenizer=char", "--batch-tokens=200", "--warmup=2", "--lr=1e-3",
    "--dropout=0", "--model-option", "d_model=32", "d_ff=32", "num_encoder_layers=1", "num_decoder_layers=1",
]  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"{'ab' * n} {'cd' * (9 - n)} about topic {n}" for n in range(1, 9)]
    (tmp_path / "long").write_text("".join(f"{text}\n" for text in texts))
    (tmp_path / "short").write_text("".join(f"topic {n}\n" for n in range(1, 9)))
    return ["--source=long", "--target=short"]


@pytest.mark.parametrize("task", ["summarise", "seq2seq"])
def test_summaries(task, files, capsys, monkeypatch):
    pytest.importorskip("rouge_score")
    more = ["--valid-source=long", "--valid-target=short", "--best-by=rougeL", "--max-source-length=12", "--steps=2"]
    assert main(["train", f"--task={task}", *files, "--output=model", *SMALL, *more]) == 0
    assert "ROUGE-1 " in capsys.readouterr().err
    assert dg.load("model").config.max_source_length == 12
    assert load_task("model").name == "summarise"
    records = [json.loads(line) for line in Path("model/log.jsonl").read_text().splitlines()]
    assert any({"valid_rouge1", "valid_rouge2", "valid_rougeL", "valid_rougeL_signature"} <= set(r) for r in records)
    assert main(["evaluate", "model", *files, "--beam=1", "--max-length=9", "--threads=1"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"rouge1", "rouge2", "rougeL", "sentences"} < set(found) and "bleu" not in found
    assert main(["evaluate", "model", "--data=long", "--threads=1"]) == 2
    assert (
        "holds a model of the task summarise, which needs --source and --target, not --data" in capsys.readouterr().err
    )
    assert main(["train", "--config=model/train.toml", "--resume", "--steps=3"]) == 0
    assert "num_decoder_layers=1" in Path("model/train.toml").read_text()
    with open("long") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert main(["predict", "model", "--output=out", "--threads=1", "--max-length=5"]) == 0
    assert Path("out").read_text().count("\n") == 8


def test_without_the_library(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    more = ["--valid-source=long", "--valid-target=short", "--best-by=rouge1", "--steps=1"]
    assert main(["train", "--task=summarise", *files, "--output=model", *SMALL, *more]) == 2
    assert "ROUGE needs the extra: pip install 'dragoman[summarise]'" in capsys.readouterr().err


def test_a_long_source_is_cut_to_1024(files):
    Path("long").write_text(f"{'ab ' * 2000}\n" * 8)
    more = ["--batch-tokens=3000", "--steps=1"]
    assert main(["train", "--task=summarise", *files, "--output=model", *SMALL, *more]) == 0
    assert dg.load("model").config.max_source_length == 1024
