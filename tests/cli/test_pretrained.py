"""The command line on a folder from elsewhere: translate, score, explain, train from it."""

import json

import dragoman as dg
import pretrained_files as made
import pytest
from dragoman.cli import main
from dragoman.models import EncoderConfig, TextEncoder

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
