import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import dragoman as dg
import pytest
from dragoman import Translator
from dragoman.cli import main

pytest.importorskip("tokenizers")

WORDS = {
    "a": "ein", "man": "Mann", "dog": "Hund", "child": "Kind", "sees": "sieht", "hears": "hört",
    "red": "rotes", "big": "großes", "house": "Haus", "boat": "Boot",
}  # fmt: skip
LONG = {"en": "source", "de": "target"}
# Without label smoothing: with it, every token of such a small vocabulary is probable enough for a beam.
ARGUMENTS = [
    "--vocab-size=200", "--batch-tokens=200", "--warmup=50", "--lr=1e-3", "--threads=1", "--dropout=0",
    "--label-smoothing=0",
]  # fmt: skip


def sentences():
    """Every 'a X sees|hears a red|big Y': 24 word-by-word translations."""
    for who in ("man", "dog", "child"):
        for verb in ("sees", "hears"):
            for how in ("red", "big"):
                for what in ("house", "boat"):
                    source = f"a {who} {verb} a {how} {what}"
                    yield source, " ".join(WORDS[word] for word in source.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pairs = list(sentences())
    for suffix, chosen in (("", pairs * 4), (".valid", pairs[::5])):
        for side, language in enumerate(("en", "de")):
            text = "".join(f"{pair[side]}\n" for pair in chosen)
            (folder / f"{language}{suffix}").write_text(text)
    (folder / "en.gz").write_bytes(gzip.compress((folder / "en").read_bytes()))
    return folder


def train(data, output, *more):
    files = ["--source", str(data / "en.gz"), "--target", str(data / "de"), "--output", str(output)]
    return main(["train", *files, *ARGUMENTS, *more])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("model") / "en-de"
    valid = ["--valid-source", str(data / "en.valid"), "--valid-target", str(data / "de.valid")]
    assert train(data, output, *valid, "--epochs", "40", "--seed", "4") == 0
    return output


def run(*arguments, stdin=b""):
    return subprocess.run(
        [sys.executable, "-m", "dragoman", *map(str, arguments)], input=stdin, capture_output=True, timeout=120
    )


def test_train_leaves_a_folder_that_translates(trained):
    assert {path.name for path in trained.iterdir()} == {
        "model.safetensors", "config.json", "tokenizer.json", "train.toml", "data", "log.jsonl", "checkpoints",
    }  # fmt: skip
    translator = Translator.load(trained)
    sources, targets = zip(*sentences(), strict=True)
    assert translator(list(sources)) == list(targets)
    assert translator(sources[0], beam=1) == targets[0]


def test_a_translation_does_not_depend_on_its_neighbours(trained):
    translator = Translator.load(trained)
    sources = [source for source, _ in sentences()]
    mixed = ["", sources[3], "  ", "a man", *sources, "man"]
    outputs = translator(mixed)
    assert outputs == [translator(text) for text in mixed]
    assert outputs[0] == outputs[2] == ""
    assert translator([]) == []


def test_threads_share_a_translator(trained):
    translator = Translator.load(trained)
    sources, targets = zip(*sentences(), strict=True)
    futures = [translator.submit(source, beam=2) for source in sources[:6]]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(translator, sources)) == list(targets)
    assert [future.result() for future in futures] == list(targets[:6])
    with pytest.raises(ValueError, match="beam"):
        translator.submit("a man", beam=0).result()


def test_translate_keeps_lines(trained):
    source, target = next(sentences())
    lines = [source, "", f"{source}\r", " ", source]
    done = run("translate", trained, "--beam", "2", stdin="\n".join(lines).encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split("\n") == [target, "", target, "", target, ""]
    assert done.stderr == b""


def test_translate_names_a_line_that_is_not_utf8(trained):
    done = run("translate", trained, stdin=b"a man\n\xff\n")
    assert done.returncode == 2
    assert done.stderr == b"dragoman translate: standard input: line 2 is not UTF-8\n"


def test_evaluate(trained, data, capsys):
    sacrebleu = pytest.importorskip("sacrebleu")
    files = ["--source", str(data / "en.valid"), "--target", str(data / "de.valid")]
    assert main(["evaluate", str(trained), *files]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    sources, targets = ((data / name).read_text().splitlines() for name in ("en.valid", "de.valid"))
    outputs = Translator.load(trained)(sources)
    assert result["bleu"] == pytest.approx(sacrebleu.corpus_bleu(outputs, [targets]).score, abs=0.005)
    assert result["chrf"] == pytest.approx(sacrebleu.corpus_chrf(outputs, [targets]).score, abs=0.005)
    assert result["sentences"] == len(sources)
    assert "case:mixed" in result["bleu_signature"]
    assert "tok:13a" in result["bleu_signature"]
    assert "case:lc" in result["bleu_lowercase_signature"]
    table = data / "valid.tsv"
    table.write_text("".join(f"{target}\t{source}\n" for source, target in zip(sources, targets, strict=True)))
    assert main(["evaluate", str(trained), f"--source={table}", f"--target={table}", "--columns=2,1"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result


def test_info(trained, capsys):
    assert main(["info"]) == 0
    assert dg.cpu_isa() in capsys.readouterr().out
    assert main(["info", str(trained)]) == 0
    out = capsys.readouterr().out
    assert f"{dg.load(trained).num_parameters():,} parameters" in out
    assert '"d_model": 128' in out
    assert "encoder" in out


def test_resume_goes_on(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    short = "--warmup=2"  # at most half of the run
    assert train(data, whole, short, "--steps", "9") == 0
    assert train(data, parts, short, "--steps", "4") == 0
    assert train(data, parts, short, "--steps", "9") == 2
    assert train(data, parts, short, "--steps", "9", "--resume") == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_the_task_goes_by_two_names(data, tmp_path):
    for name in ("translate", "translation"):
        assert train(data, tmp_path / name, "--steps", "1", "--task", name) == 0
        assert f'task = "{name}"' in (tmp_path / name / "train.toml").read_text()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("translate", "translation")]
    assert weights[0] == weights[1]


def test_resume_refuses_swapped_files(data, tmp_path, capsys):
    assert train(data, tmp_path / "out", "--steps", "2") == 0
    files = ["--source", str(data / "de"), "--target", str(data / "en"), "--output", str(tmp_path / "out")]
    assert main(["train", *files, *ARGUMENTS, "--steps", "3", "--resume"]) == 2
    assert "must be the same to resume" in capsys.readouterr().err
    assert train(data, tmp_path / "out", "--steps", "3", "--resume") == 0


def test_a_config_file_trains_the_same(data, tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    assert train(data, first, "--steps", "3", "--tokenizer", "unigram", "--min-length", "2") == 0
    config = f"--config={first / 'train.toml'}"
    assert main(["train", config, "--output", str(again), "--threads", "1"]) == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    lines = [(folder / "train.toml").read_text().splitlines() for folder in (first, again)]
    assert [line for line in lines[0] if line not in lines[1]] == [f'output = "{first}"']
    assert {'tokenizer = "unigram"', "steps = 3", "epochs = 30", "lr = 0.001"} - set(lines[0]) == {"epochs = 30"}
    capsys.readouterr()
    assert main(["train", config, "--set", "stepps=4"]) == 2
    assert capsys.readouterr().err == "dragoman train: --set: unknown key 'stepps'; did you mean steps?\n"
    assert main(["train", "--config", str(tmp_path / "none")]) == 2
    assert "none: No such file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Documents of 1,100 words. The short target depends on all of the words."""
    folder, rng = tmp_path_factory.mktemp("documents"), random.Random(0)
    topics = {"sea": ["boat", "wave", "fish"], "land": ["tree", "hill", "road"]}
    chosen = [rng.choice([*topics]) for _ in range(60)]
    (folder / "source").write_text("".join(f"{' '.join(rng.choices(topics[t], k=1100))}\n" for t in chosen))
    (folder / "target").write_text("".join(f"the {topic}\n" for topic in chosen))
    return folder


def test_documents_of_more_than_1024_tokens(documents, tmp_path, capsys):
    files = [f"--{side}={documents / side}" for side in ("source", "target")]
    options = [*files, f"--output={tmp_path / 'model'}", *ARGUMENTS, "--batch-tokens=4096", "--warmup=10"]
    assert main(["train", *options, "--task=seq2seq", "--steps=32"]) == 0
    assert "60 pairs in 15 batches, 0 left out" in capsys.readouterr().err
    translator = Translator.load(tmp_path / "model")
    assert translator.model.config.max_source_length == 1024
    sources, targets = ((documents / side).read_text().splitlines()[:8] for side in ("source", "target"))
    assert translator(sources, beam=2) == targets
    # The model reads the first 1,023 words only, one token each.
    head = " ".join(sources[0].split()[:1023])
    assert translator(head) == translator(f"{head} {sources[1]}")


def test_several_files_and_the_report(data, tmp_path, capfd):
    sides = [value for side in ("en", "de") for value in (f"--{LONG[side]}", *[str(data / side)] * 2)]
    assert main(["train", *sides, "--output", str(tmp_path / "out"), *ARGUMENTS, "--steps=1", "--tokenizer=char"]) == 0
    error = capfd.readouterr().err
    assert "192 pairs in " in error
    assert "% padding" in error


def mistakes(data, folder):
    en, de = f"--source={data / 'en'}", f"--target={data / 'de'}"
    short = folder / "short"
    short.write_text("one line\n")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    out = f"--output={folder / 'out'}"
    return {
        ("train", f"--source={folder / 'none'}", de, out): "none: No such file or directory",
        ("train", en, f"--target={short}", out): "en has 96 lines, .*short has 1",
        ("train", en, f"--target={folder}", out): "Is a directory",
        ("train", en, de, out, "--vocab-size=10"): r"--vocab-size must be an integer in \[64, ",
        ("train", en, de, out, "--lr=-1"): "train: --lr must be above 0, got -1",
        ("train", en, de, out, "--dropout=1"): "--dropout must (be|lie)",
        ("train", en, de, out, "--max-source-length=9"): "--max-source-length needs --task summarise, got translate",
        ("train", en, de, out, "--model-option=nrom=rms"): "--model-option: unknown name .nrom.; did you mean norm[?]",
        (
            "train",
            en,
            de,
            out,
            "--model-option",
            "vocab_size=9",
        ): "--model-option must not set --vocab-size, which the data",
        ("train", en, de, out, "--model-option", "norm"): "--model-option: must be KEY=VALUE, got .norm.",
        ("train", en, de, out, "--model-option", "norm=3"): "norm must be one of layer, rms, got 3",
        (
            "train",
            en,
            de,
            out,
            "--task=seq2seq",
            "--max-source-length=0",
        ): r"--max-source-length must be an integer in \[1, ",
        ("train", en, de, out, "--clip=0"): "train: --clip must be above 0",
        ("train", en, de, out, "--max-ratio=0.5"): "train: --max-ratio must be at least 1",
        ("train", en, de, out, "--config=" + str(short)): "short: not a TOML file",
        ("train", en, de, out, "--batch-tokens=3"): "more than --batch-tokens 3; raise it or set --max-length",
        ("train", en, de, out, "--valid-source=x"): "--valid-target must be given together",
        ("train", en, de, out, "--resume"): "out/checkpoints: no checkpoint to resume from",
        ("train", en, de, f"--output={short}"): "short.*: (Not a directory|File exists)",
        ("translate", folder / "none"): "none: not a model folder$",
        ("translate", broken): "broken/config.json: must be JSON",
        ("evaluate", broken, en, f"--target={short}"): "en has 96 lines",
        ("info", broken): "broken/config.json: ",
        ("info", "--threads=0"): r"--threads must be an integer in \[1, 1,024\], got .0",
    }


def test_a_mistake_is_one_line_and_status_2(data, tmp_path, capsys):
    threads = dg.num_threads()
    for arguments, message in mistakes(data, tmp_path).items():
        assert main(list(map(str, arguments))) == 2, arguments
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith(f"dragoman {arguments[0]}: "), error
        assert "Traceback" not in "".join(error)
        assert re.search(message, error[-1]), error[-1]
    dg.set_num_threads(threads)


def test_a_missing_extra_is_named(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert train(data, tmp_path / "x") == 2
    assert capsys.readouterr().err.endswith("needs the extra: pip install 'dragoman[text]'\n")


def test_help_has_examples_and_defaults():
    for command in ("train", "translate", "evaluate", "info"):
        text = run(command, "--help").stdout.decode()
        assert "example:" in text or "examples:" in text
    assert "(default: 10000; of" in " ".join(run("train", "--help").stdout.decode().split())
    assert run("--version").stdout.decode() == f"dragoman {dg.__version__}\n"
    assert run().returncode == 2


def test_the_defaults_in_the_help_are_those_of_the_trainer():
    text = " ".join(run("train", "--help").stdout.decode().split())
    flags, checked = {"max_grad_norm": "clip"}, []
    for field in (field for field in fields(dg.Trainer) if field.name != "lr"):
        flag = flags.get(field.name, field.name.replace("_", "-"))
        if found := re.search(rf"--{flag} [NX] [^-]*?\(default: ([\d.]+)[ );]", text):
            checked.append(field.name)
            assert float(found[1]) == field.default, field.name
    assert {"batch_tokens", "warmup", "max_grad_norm", "log_interval"} <= set(checked)


def test_a_closed_pipe_is_no_error(trained):
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "translate", str(trained)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.write(b"a man sees a red boat\n" * 300)
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_with_its_status(number, status, data, tmp_path):
    output = tmp_path / "out"
    files = ["--source", data / "en", "--target", data / "de", "--output", output]
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "train", *map(str, files), *ARGUMENTS, "--minutes", "5"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's job in the background ignores SIGINT
    )
    log = output / "log.jsonl"
    while not (log.exists() and log.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert b"Traceback" not in error
    assert b"can be resumed" in error
    assert train(data, output, "--steps", "1", "--resume") == 0


def test_translate_streams(trained):
    # A reader of the first block must not wait for the end of the input.
    process = subprocess.Popen(
        [sys.executable, "-m", "dragoman", "translate", str(trained), "--beam", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process.stdin, process.stdout:
        process.stdin.write(b"a man sees a red boat\n" * 2000)
        process.stdin.flush()
        assert process.stdout.readline() == b"ein Mann sieht ein rotes Boot\n"
        process.stdin.close()
        assert len(process.stdout.read().splitlines()) == 1999
    assert process.wait() == 0


def test_real_captions(tmp_path):
    """A few steps on Multi30k lower the validation loss; the evaluation runs through."""
    pytest.importorskip("sacrebleu")
    folder = Path(os.environ.get("DRAGOMAN_DATA", "none")) / "multi30k"
    if not folder.is_dir():
        pytest.skip("set DRAGOMAN_DATA to a folder with multi30k/")
    files = [f"--{option}={folder / name}" for option, name in (
        ("source", "train.en.gz"), ("target", "train.de.gz"),
        ("valid-source", "val.en.gz"), ("valid-target", "val.de.gz"),
    )]  # fmt: skip
    assert main(["train", *files, f"--output={tmp_path}", "--steps=20", "--warmup=20", "--log-interval=5"]) == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]
