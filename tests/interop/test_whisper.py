"""Whisper: folders of transformers open, search and go back."""

import json
import os
import re
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.data import log_mel
from dragoman.models import SpeechTransformer
from huggingface_folders import assert_close, change_json, checkpoint, expected, losses
from safetensors.numpy import load_file, save_file
from speech import ROWS, SIZES, frames_of, generation_of, sound_of, speech_model, speech_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = Path(os.environ.get("DRAGOMAN_WHISPER", "whisper-tiny.en"))  # a folder with the real model

real = pytest.mark.skipif(not REAL.is_dir(), reason="DRAGOMAN_WHISPER names no folder of whisper-tiny.en")


def sources(theirs):
    """The fixture's frames, as ours: (frames, bins)."""
    return [np.ascontiguousarray(x.T) for x in theirs["x"]]


def test_logits_are_those_of_transformers(tmp_path):
    folder = checkpoint("tiny", "whisper")
    theirs = expected(folder)
    model = dg.load(folder)
    batch, targets = sources(theirs), theirs["tgt"].tolist()
    found = model.logits(batch, targets)
    assert_close(found, np.concatenate(theirs["logits"]))
    model.save(tmp_path)
    np.testing.assert_array_equal(dg.load(tmp_path).logits(batch, targets), found)


def test_fine_tuning_the_fixture_lowers_the_loss():
    folder = checkpoint("tiny", "whisper")
    theirs = expected(folder)
    batch, targets = sources(theirs), [ids[1:] for ids in theirs["tgt"].tolist()]
    for adapters in (False, True):
        model = dg.load(folder)
        if adapters:
            dg.lora.add(model, rank=4)
        found = losses(model, 1e-2, batch, targets)
        assert found[-1] < found[0]


def save_theirs(folder, **fields):
    """A folder as transformers writes it, with a tokenizer."""
    tokenizer = speech_tokenizer()
    model = speech_model(tokenizer.vocab_size + 6, **fields).eval()
    model.save_pretrained(folder, "whisper")
    tokenizer.save(folder / "tokenizer.json")
    ends = {"eos_token_id": 2, "pad_token_id": 2, "bos_token_id": 2, "decoder_start_token_id": 3}
    (folder / "generation_config.json").write_text(json.dumps(generation_of(tokenizer) | ends))
    return model


@pytest.mark.parametrize("tied", ["two", "none"])
def test_a_model_goes_there_and_back(tied, rng, tmp_path):
    model = save_theirs(tmp_path, tie_embeddings=tied)
    batch, targets = frames_of(rng, 20, 8), [[3, 4, 5], [3, 6]]
    loaded = dg.load(tmp_path)
    assert type(loaded) is SpeechTransformer and loaded.config.encoder_side == model.config.encoder_side
    np.testing.assert_array_equal(loaded.logits(batch, targets), model.logits(batch, targets))
    kernel = model.state_dict()["conv2.weight"]
    theirs = load_file(tmp_path / "model.safetensors")["model.encoder.conv2.weight"]
    assert theirs.shape == (12, 12, 3)
    np.testing.assert_array_equal(theirs[:, :, 1], kernel[:, 12:24])


def test_several_ends_are_kept(tmp_path):
    save_theirs(tmp_path, eos_id=(2, 5))
    assert dg.load(tmp_path).config.eos_id == (2, 5)


def edit_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_head_is_tied_by_what_is_in_the_file(rng, tmp_path):
    model = save_theirs(tmp_path)
    batch, targets = frames_of(rng, 20), [[3, 4, 5]]
    embedding = "model.decoder.embed_tokens.weight"
    edit_tensors(tmp_path, lambda tensors: tensors.update({"proj_out.weight": tensors[embedding].copy()}))
    assert dg.load(tmp_path).config.tie_embeddings == "two"
    edit_tensors(tmp_path, lambda tensors: tensors.update({"proj_out.weight": 2 * tensors[embedding]}))
    loaded = dg.load(tmp_path)
    assert loaded.config.tie_embeddings == "none"
    np.testing.assert_allclose(loaded.logits(batch, targets), 2 * model.logits(batch, targets), rtol=1e-5, atol=1e-6)


def test_names_without_the_prefix(rng, tmp_path):
    model = save_theirs(tmp_path)

    def strip(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    edit_tensors(tmp_path, strip)
    batch, targets = frames_of(rng, 20), [[3, 4, 5]]
    np.testing.assert_array_equal(dg.load(tmp_path).logits(batch, targets), model.logits(batch, targets))


CONV = "model.encoder.conv1.weight"


@pytest.mark.parametrize(
    ("fields", "edit", "words"),
    [
        ({"activation_function": "quick"}, None, "activation_function must be one of"),
        ({"num_mel_bins": 6}, None, "must have shape (12, 6, 3), got (12, 5, 3)"),
        ({"encoder_attention_heads": 5}, None, "num_heads must be a divisor of d_model = 12"),
        ({"decoder_start_token_id": 10**6}, None, "start_id must be an int in"),
        ({}, lambda tensors: tensors.pop(CONV), "model.encoder.conv1.weight"),
        ({}, lambda tensors: tensors.update({"classifier.weight": np.zeros((2, 3), np.float32)}), "classifier.weight"),
        ({}, lambda tensors: tensors.update({CONV: tensors[CONV][:, :, :2].copy()}), "(12, 5, 3), got (12, 5, 2)"),
    ],
)
def test_what_does_not_fit_is_named(fields, edit, words, tmp_path):
    save_theirs(tmp_path)
    change_json(tmp_path, **fields)
    if edit is not None:
        edit_tensors(tmp_path, edit)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        dg.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_field_of_prompts_that_is_no_id_is_named(tmp_path):
    save_theirs(tmp_path)
    path = tmp_path / "generation_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"no_timestamps_token_id": 10**6}))
    with pytest.raises(ValueError, match=r"generation_config.json: no_timestamps_token_id must be an id in"):
        dg.Transcriber.load(tmp_path)
    path.write_text(json.dumps(values | {"forced_decoder_ids": [[1, None], [2, 300]], "return_timestamps": False}))
    assert dg.Transcriber.load(tmp_path).languages == ["en", "de", "ko"]
    path.write_text(json.dumps(values | {"guidance_scale": 3.0}))
    with pytest.raises(ValueError, match="guidance_scale"):
        dg.Transcriber.load(tmp_path)


def test_a_transcriber_opens_their_folder(rng, tmp_path):
    pytest.importorskip("tokenizers")
    save_theirs(tmp_path)
    served = dg.Transcriber.load(tmp_path)
    sound = sound_of(rng, 5000)
    assert served.languages == ["en", "de", "ko"]
    assert served(sound, "ko") == dg.Transcriber.load(tmp_path, compute_type="float32")(sound, "ko")


def test_our_own_folder_keeps_the_prompts(rng, tmp_path):
    pytest.importorskip("tokenizers")
    save_theirs(tmp_path / "theirs")
    served = dg.Transcriber.load(tmp_path / "theirs")
    served.model.save(tmp_path / "ours")
    served.tokenizer.save(tmp_path / "ours/tokenizer.json")
    sound = sound_of(rng, 5000)
    again = dg.Transcriber.load(tmp_path / "ours")
    assert again.languages == served.languages
    assert again(sound, "ko") == served(sound, "ko")


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
    assert_close(model.logits([frames], [ids]), logits)


@pytest.mark.parity
def test_transformers_writes_the_same(rng, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = save_theirs(tmp_path)
    for parameter in list(model.parameters()):
        if len(parameter.shape) == 2:  # so that outputs differ
            parameter.copy_(4 * parameter.numpy())
    model.save_pretrained(tmp_path, "whisper")
    served = dg.Transcriber.load(tmp_path)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    tokenizer, texts = served.tokenizer, set()
    for samples in (3000, 9000):
        sound = sound_of(rng, samples)
        features = torch.tensor(log_mel(sound, SIZES["mel_bins"], 2 * ROWS).T[None])
        for language in ("de", "ko", None):
            for task in ("transcribe", "translate"):
                for beam in (1, 4):
                    ids = theirs.generate(
                        features, language=language, task=task, num_beams=beam, do_sample=False, max_new_tokens=12
                    )[0].tolist()
                    text = tokenizer.decode([id for id in ids if id < tokenizer.vocab_size]).strip()
                    assert served(sound, language, task, beam=beam, max_length=12) == text
                    texts.add(text)
    assert len(texts) > 5


@real
def test_the_real_model():
    with np.load(checkpoint("expected", "whisper-tiny.en.npz")) as file:
        theirs = dict(file)
    model = dg.load(REAL)
    frames = log_mel(theirs["audio"])
    given = np.ascontiguousarray(theirs["features"].T)
    assert abs(frames - given).max() <= 1e-4
    ids = theirs["ids"].tolist()
    with model.inference():
        memory = model.encode(*model.pack_source("test", [given])).numpy()
    assert_close(memory[: len(theirs["memory"])], theirs["memory"], 2e-5)
    assert_close(model.logits([given], [ids[:-1]])[theirs["places"]], theirs["logits"], 2e-5)
    served = dg.Transcriber.load(REAL)
    assert served.prompt() == ids[:2]
    text = served.tokenizer.decode(ids[2:-1]).strip()
    assert served(theirs["audio"]) == text
    # As of CTranslate2 4.8 with a beam of 5.
    other = "The quick brown fox jump over the lazy dog, a small runtime translate speech."
    assert served(theirs["audio"], beam=5) == other
    twice = np.concatenate([theirs["audio"], np.zeros(25 * 16000, np.float32), theirs["audio"]])
    assert served(twice).startswith(f"{text} The quick ")
    assert dg.Transcriber.load(REAL, compute_type="bfloat16")(theirs["audio"]) == text
    words = set(dg.Transcriber.load(REAL, compute_type="int8")(theirs["audio"]).split())
    assert len(words & set(text.split())) > 0.7 * len(words)
