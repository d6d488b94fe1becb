"""The command line on a folder from elsewhere: translate, score, explain, train from it."""

import dataclasses
import json
import shutil

import dragoman as dg
import numpy as np
import pretrained_files as made
import pytest
from dragoman.cli import main
from dragoman.models import DecoderConfig, EncoderConfig, TextDecoder, TextEncoder

pytest.importorskip("tokenizers")

LANGUAGES = ["--source-language=en", "--target-language=fr"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """M2M100, small and random, that asks for a beam of 2."""
    folder = made.m2m100(tmp_path_factory.mktemp("m2m100"))
    config = dg.TransformerConfig(
        **{"vocab_size": dg.Tokenizer.load(folder).vocab_size, "d_model": 12, "num_heads": 2, "d_ff": 11},
        **{"num_encoder_layers": 1, "num_decoder_layers": 1, "max_length": 40, "position_layout": "fairseq"},
        **{"position_offset": 2, "activation": "relu", "norm_first": True, "pad_id": 1, "bos_id": 0, "unk_id": None},
        **{"start_id": 2, "eos_id": 2},
    )
    dg.Transformer(config).save_pretrained(folder, "m2m_100")
    return made.write(folder, generation_config__json={"num_beams": 2, "max_length": 9})


@pytest.fixture
def sentences(tmp_path):
    (tmp_path / "source").write_text("the cat\na big dog\n" * 3)
    (tmp_path / "target").write_text("a dog\nthe cat\n" * 3)
    return [f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'target'}"]


def test_translate_is_the_translator(folder, tmp_path, monkeypatch):
    (tmp_path / "in").write_text("the cat\n\na big dog\n")
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["translate", str(folder), "--output", str(tmp_path / "out"), *LANGUAGES]) == 0
    translator = dg.Translator.load(folder, source_language="en", target_language="fr")
    assert (tmp_path / "out").read_text().split("\n")[:3] == translator(["the cat", "", "a big dog"])


def test_other_commands(folder, sentences, tmp_path, capsys):
    assert main(["score", str(folder), *sentences, *LANGUAGES]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(["evaluate", str(folder), *sentences, *LANGUAGES]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["beam"] == 2
    page = tmp_path / "page.html"
    assert main(["explain", str(folder), "the cat", f"--output={page}", *LANGUAGES]) == 0
    assert "__fr__" in page.read_text()


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ([], "--source-language must be one of af"),
        (["--source-language=en", "--target-language=fra"], "--target-language must be one of af"),
    ],
)
@pytest.mark.parametrize("command", ["translate", "train"])
def test_languages(command, languages, message, folder, sentences, tmp_path, capsys):
    arguments = (
        [str(folder)] if command == "translate" else [f"--from={folder}", f"--output={tmp_path}/new", *sentences]
    )
    assert main([command, *arguments, *languages]) == 2
    assert message in capsys.readouterr().err


def sizes(folder):
    return {
        "vocab_size": dg.Tokenizer.load(folder).vocab_size,
        "d_model": 8,
        "num_heads": 2,
        "d_ff": 8,
        "num_layers": 1,
    }


def test_evaluate_takes_the_task_that_a_model_fits(tmp_path, capsys):
    """Of a folder without task.json: labels, masked tokens, and what follows. A body alone fits no task."""
    bert = made.bert(tmp_path / "bert")
    config = EncoderConfig(**sizes(bert), max_length=20)
    (tmp_path / "words").write_text("the\tA\ncat\tB\n\nworld\tA\n")
    (tmp_path / "labels").write_text("A\tthe cat\nB\thello world\n")
    (tmp_path / "texts").write_text("the cat sat on the mat\nhello world\n")

    def evaluate(folder, data):
        code = main(["evaluate", str(folder), f"--data={tmp_path / data}"])
        captured = capsys.readouterr()
        return json.loads(captured.out.splitlines()[-1]) if code == 0 else captured.err

    for head, data, task in (("classify", "labels", "classify"), ("tag", "words", "tag"), ("mlm", "texts", "mlm")):
        labels = () if head == "mlm" else ("A", "B")
        TextEncoder(dataclasses.replace(config, head=head, labels=labels)).save(tmp_path / head)
        dg.Tokenizer.load(bert).save(tmp_path / head / "tokenizer.json")
        found = evaluate(tmp_path / head, data)
        assert (found["task"], found["examples"]) == (task, 2)
    TextEncoder(config).save(tmp_path / "body")
    assert "body: must hold a model with a task that can be scored, got the head 'none'" in evaluate(
        tmp_path / "body", "texts"
    )

    gpt = made.byte_level(tmp_path / "gpt", "GPT2Tokenizer")
    TextDecoder(DecoderConfig(**sizes(gpt), max_length=40, bos_id=0, eos_id=0)).save(tmp_path / "lm")
    dg.Tokenizer.load(gpt).save(tmp_path / "lm" / "tokenizer.json")
    lm = dg.LanguageModel.load(tmp_path / "lm")
    scored = lm.score([("", text) for text in (tmp_path / "texts").read_text().splitlines()])
    bits = -sum(each.sum_logprob for each in scored) / np.log(2) / (22 + 11 + 2)
    assert evaluate(tmp_path / "lm", "texts")["bits_per_character"] == pytest.approx(bits, rel=1e-3)


def test_a_folder_without_a_tokenizer(folder, tmp_path, capsys):
    """What is missing is said in the same words by each command."""
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.bpe.model", "vocab.json"))
    (tmp_path / "data").write_text("the cat\n")
    data = f"--data={tmp_path / 'data'}"
    for arguments in (
        ["evaluate", str(bare), data],
        ["train", f"--from={bare}", "--task=denoise", data, f"--output={tmp_path / 'new'}"],
    ):
        assert main(arguments) == 2
        assert f"{bare}: no tokenizer; expected one of tokenizer.json" in capsys.readouterr().err


def test_train_from_it(folder, sentences, tmp_path):
    """With its sizes, its tokenizer and its weights; the new folder knows the languages."""
    more = ["--steps=3", "--threads=1", "--batch-tokens=100", "--warmup=1", "--lr=1e-3", "--dropout=0"]
    assert main(["train", f"--from={folder}", f"--output={tmp_path}/new", *sentences, *LANGUAGES, *more]) == 0
    new = dg.Translator.load(tmp_path / "new")
    theirs = dg.Translator.load(folder, source_language="en", target_language="fr")
    assert new.tokenizer.source_frame == theirs.tokenizer.source_frame
    assert new.model.config.start_id == theirs.model.config.start_id
    assert len(new(["the cat"])) == 1
    before, after = (dict(each.model.named_parameters()) for each in (theirs, new))
    assert all(abs(after[name].numpy() - before[name].numpy()).max() < 0.02 for name in before)
    resumed = ["--config", f"{tmp_path}/new/train.toml", "--resume", "--steps=4", "--threads=1"]
    assert main(["train", *resumed]) == 0


def test_languages_need_a_model_that_translates(tmp_path, capsys):
    TextEncoder(EncoderConfig(vocab_size=40, d_model=8, num_heads=2, d_ff=8, num_layers=1)).save(tmp_path)
    assert main(["serve", str(tmp_path), "--source-language=en"]) == 2
    assert "--source-language needs a model that translates, got one for a SentenceEncoder" in capsys.readouterr().err
