"""Whisper: folders of transformers open, search and go back."""

import json
import os
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.data import log_mel
from dragoman.models import SpeechTransformer
from dragoman.optim import AdamW
from speech import frames_of, generation_of, sound_of, speech_model, speech_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

FIXTURES = Path(os.environ.get("DRAGOMAN_INTEROP", Path(__file__).parents[3] / "shared/interop"))
TINY = FIXTURES / "tiny/whisper"
REAL = Path(os.environ.get("DRAGOMAN_WHISPER", "whisper-tiny.en"))  # a folder with the real model

tiny = pytest.mark.skipif(not TINY.is_dir(), reason="the fixtures are not here")
real = pytest.mark.skipif(not REAL.is_dir(), reason="DRAGOMAN_WHISPER names no folder of whisper-tiny.en")


def error_of(found, expected):
    return abs(found - expected).max() / abs(expected).max()


def sources(expected):
    """The fixture's frames, as ours: (frames, bins)."""
    return [np.ascontiguousarray(x.T) for x in expected["x"]]


@tiny
def test_logits_are_those_of_transformers(tmp_path):
    expected = dict(np.load(TINY / "expected.npz"))
    model = dg.load(TINY)
    batch, targets = sources(expected), expected["tgt"].tolist()
    found = model.logits(batch, targets)
    assert error_of(found, np.concatenate(expected["logits"])) <= 1e-5
    model.save(tmp_path)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(batch, targets), found)


@tiny
def test_fine_tuning_the_fixture_lowers_the_loss():
    expected = dict(np.load(TINY / "expected.npz"))
    batch, targets = sources(expected), [ids[1:] for ids in expected["tgt"].tolist()]
    for adapters in (False, True):
        model = dg.load(TINY).train()
        if adapters:
            dg.lora.add(model, rank=4)
        optimizer = AdamW(model, lr=1e-2)
        losses = []
        for _ in range(20):
            loss = model.loss(batch, targets)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.numpy()))
        assert losses[-1] < losses[0]


def save_theirs(folder, **fields):
    """A folder as transformers writes it, with a tokenizer."""
    tokenizer = speech_tokenizer()
    model = speech_model(tokenizer.vocab_size + 6, **fields).eval()
    model.save_pretrained(folder, "whisper")
    tokenizer.save(folder / "tokenizer.json")
    (folder / "generation_config.json").write_text(json.dumps(generation_of(tokenizer)))
    return model


@pytest.mark.parametrize("tied", ["two", "none"])
def test_a_model_goes_there_and_back(tied, rng, tmp_path):
    model = save_theirs(tmp_path, tie_embeddings=tied)
    batch, targets = frames_of(rng, 20, 8), [[3, 4, 5], [3, 6]]
    loaded = dg.load(tmp_path)
    assert type(loaded) is SpeechTransformer and loaded.config.encoder_side == model.config.encoder_side
    np.testing.assert_array_equal(loaded.logits(batch, targets), model.logits(batch, targets))
    kernel = model.state_dict()["conv2.weight"]
    from safetensors.numpy import load_file

    theirs = load_file(tmp_path / "model.safetensors")["model.encoder.conv2.weight"]
    assert theirs.shape == (12, 12, 3)
    np.testing.assert_array_equal(theirs[:, :, 1], kernel[:, 12:24])


def test_a_transcriber_opens_their_folder(rng, tmp_path):
    pytest.importorskip("tokenizers")
    save_theirs(tmp_path)
    served = dg.Transcriber.load(tmp_path)
    sound = sound_of(rng, 5000)
    assert served.languages == ["en", "de", "ko"]
    assert served(sound, "ko") == dg.Transcriber.load(tmp_path, compute_type="float32")(sound, "ko")


@pytest.mark.parity
@pytest.mark.parametrize("tied", ["two", "none"])
def test_transformers_opens_ours(tied, rng, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = save_theirs(tmp_path, tie_embeddings=tied)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    frames, ids = frames_of(rng, 60)[0], [3, 4, 5, 9]
    with torch.no_grad():
        logits = theirs(torch.tensor(frames.T[None]), decoder_input_ids=torch.tensor([ids])).logits[0].numpy()
    assert error_of(model.logits([frames], [ids]), logits) <= 1e-5


@real
def test_the_real_model():
    expected = dict(np.load(FIXTURES / "expected/whisper-tiny.en.npz"))
    model = dg.load(REAL)
    frames = log_mel(expected["audio"])
    given = np.ascontiguousarray(expected["features"].T)
    assert abs(frames - given).max() <= 1e-4
    ids = expected["ids"].tolist()
    with model.inference():
        memory = model.encode(*model.pack_source("test", [given])).numpy()
    assert error_of(memory[: len(expected["memory"])], expected["memory"]) <= 2e-5
    assert error_of(model.logits([given], [ids[:-1]])[expected["places"]], expected["logits"]) <= 2e-5
    served = dg.Transcriber.load(REAL)
    assert served.prompt() == ids[:2]
    text = served.tokenizer.decode(ids[2:-1]).strip()
    assert served(expected["audio"]) == text
    # As of CTranslate2 4.8 with a beam of 5.
    other = "The quick brown fox jump over the lazy dog, a small runtime translate speech."
    assert served(expected["audio"], beam=5) == other
    twice = np.concatenate([expected["audio"], np.zeros(25 * 16000, np.float32), expected["audio"]])
    assert served(twice).startswith(f"{text} The quick ")
    assert dg.Transcriber.load(REAL, compute_type="bfloat16")(expected["audio"]) == text
    words = set(dg.Transcriber.load(REAL, compute_type="int8")(expected["audio"]).split())
    assert len(words & set(text.split())) > 0.7 * len(words)
