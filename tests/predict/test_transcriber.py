"""Transcriber: prompts, pieces, many callers, and what it refuses."""

import json
import pickle

import dragoman as dg
import numpy as np
import pytest
from dragoman.data import log_mel
from dragoman.generate import generate
from dragoman.predict import predictor_class
from speech import ROWS, SIZES, generation_of, sound_of, speech_model, speech_tokenizer, transcriber

pytest.importorskip("tokenizers")
pytestmark = pytest.mark.usefixtures("one_thread")

LONGEST = 2 * ROWS * 160  # samples of a piece


def plain(served, sound, prompt, count=24, suppressed=()):
    """Greedy search without a cache, from a prompt, as text."""
    model, tokenizer = served.model, served.tokenizer
    ids = list(prompt)
    frames = log_mel(sound, SIZES["mel_bins"], 2 * ROWS)
    while len(ids) < min(len(prompt) + count, 24 + 1):
        logits = model.logits([frames], [ids])[-1].copy()
        logits[[*suppressed, *([2] if len(ids) == len(prompt) else [])]] = -np.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == 2:
            break
    return tokenizer.decode([id for id in ids[len(prompt) :] if id < tokenizer.vocab_size]).strip()


def test_the_prompt_names_language_and_task(rng):
    served = transcriber()
    first = served.tokenizer.vocab_size
    assert served.languages == ["en", "de", "ko"]
    assert served.prompt("de") == [3, first + 1, first + 3, first + 5]
    assert served.prompt("ko", "translate") == [3, first + 2, first + 4, first + 5]
    sound = sound_of(rng, 5000)
    suppressed = range(first, first + 6)
    texts = set()
    for language in served.languages:
        for task in ("transcribe", "translate"):
            found = served(sound, language, task)
            assert found == plain(served, sound, served.prompt(language, task), suppressed=suppressed)
            texts.add(found)
    assert len(texts) > 1


def test_without_a_language_the_most_probable_one_is_taken(rng):
    served = transcriber()
    first = served.tokenizer.vocab_size
    for samples in (2000, 6000):
        sound = sound_of(rng, samples)
        frames = log_mel(sound, SIZES["mel_bins"], 2 * ROWS)
        best = served.model.logits([frames], [[3]])[0][first : first + 3].argmax()
        assert served(sound) == served(sound, served.languages[best])
    with pytest.raises(ValueError, match=r"^Transcriber: language must be one of en, de, ko, got None"):
        served.prompt()


def test_a_model_of_one_language(rng):
    served = transcriber(generation=False)
    sound = sound_of(rng, 3000)
    assert served.languages == []
    assert served.prompt() == [3]
    frames = log_mel(sound, SIZES["mel_bins"], 2 * ROWS)
    ids = generate(served.model, [frames])[0][0].ids
    tokenizer = served.tokenizer
    assert served(sound) == tokenizer.decode([id for id in ids if id < tokenizer.vocab_size]).strip()
    for language in ("en", "xx"):
        with pytest.raises(ValueError, match=r"^Transcriber: language must be None for this model, got"):
            served(sound, language)
    with pytest.raises(ValueError, match=r"^Transcriber: task must be one of transcribe, got 'translate'"):
        served(sound, task="translate")
    tokenizer = speech_tokenizer()
    english = generation_of(tokenizer) | {"is_multilingual": False}
    model = speech_model(tokenizer.vocab_size + 6).eval()
    assert dg.Transcriber(model, tokenizer, english).prompt() == [3, tokenizer.vocab_size + 5]


def test_a_sound_a_list_an_empty_list_and_submit(rng):
    served = transcriber()
    sounds = [sound_of(rng, count) for count in (4000, 1, LONGEST, 0, 700)]
    found = served(sounds, "en")
    assert found == [served(sound, "en") for sound in sounds] == served(tuple(sounds), "en")
    assert found == [future.result() for future in [served.submit(sound, "en") for sound in sounds]]
    assert found[3] == ""
    assert served([]) == []
    assert served(sounds, "en", beam=3) == [served(sound, "en", beam=3) for sound in sounds]


def test_a_long_sound_is_its_pieces(rng):
    served = transcriber()
    sound = sound_of(rng, 3 * LONGEST)
    sound[LONGEST - 2000 : LONGEST + 3000] = 0  # the first piece ends 800 samples after its beginning
    parts = sound[: LONGEST - 1200], sound[LONGEST - 1200 :]
    assert served(sound, "en") == " ".join(filter(None, served([*parts], "en")))


def test_the_search_is_told_what_not_to_write(rng):
    served = transcriber()
    sound = sound_of(rng, 5000)
    id = served.tokenizer.encode("dog")[-1]
    once, twice = (served.tokenizer.decode([id] * count).strip() for count in (1, 2))
    assert served(sound, "en", allowed=[id], max_length=1) == once  # generation_config.json: eos is never the first
    assert served(sound, "en", allowed=[id], min_length=2, max_length=2, begin_suppress=[]) == twice
    with pytest.raises(ValueError, match=r"^Transcriber: beam must be at least 1"):
        served(sound, "en", beam=0)
    with pytest.raises(TypeError, match=r"^Transcriber: got an unexpected keyword argument 'beams'"):
        served(sound, "en", beams=2)


def test_what_is_no_sound_is_refused_at_once(rng):
    served = transcriber()
    good = sound_of(rng, 10)
    for bad, error, message in (
        (3, TypeError, "audio must be a float32 array or a list of them, got int"),
        ("a.wav", TypeError, "audio must be a float32 array or a list of them, got str"),
        ([0.1, 0.2], TypeError, r"audio\[0\] must be a float32 array of samples, got float"),
        (np.zeros(3), TypeError, "audio must be float32 from -1 to 1, got dtype float64"),
        (np.zeros(3, np.int16), TypeError, "audio must be float32 .* got dtype int16; divide int16 by 32768"),
        (np.zeros((3, 2), np.float32), ValueError, r"audio must have shape \(samples,\), of one channel, got \(3, 2\)"),
        ([good, np.float32([0, np.nan])], ValueError, r"audio\[1\] must be finite"),
    ):
        with pytest.raises(error, match=rf"^Transcriber: {message}"):
            served(bad)
        if not isinstance(bad, list | int | str):
            with pytest.raises(error, match=rf"^Transcriber: {message}"):
                served.submit(bad)
    with pytest.raises(ValueError, match=r"^Transcriber: sample_rate must be 16000, got 8000; resample the sound"):
        served(good, sample_rate=8000)
    with pytest.raises(ValueError, match=r"^Transcriber: language must be one of en, de, ko, got 'fr'"):
        served(good, "fr")
    with pytest.raises(ValueError, match=r"^Transcriber: task must be one of transcribe, translate, got 'sing'"):
        served(good, task="sing")


def test_a_folder_of_ours(rng, tmp_path):
    tokenizer = speech_tokenizer()
    speech_model(tokenizer.vocab_size + 6).save(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    sound = sound_of(rng, 5000)
    assert predictor_class(tmp_path) is dg.Transcriber
    assert dg.Transcriber.load(tmp_path).languages == []
    (tmp_path / "generation_config.json").write_text(json.dumps(generation_of(tokenizer)))
    served = dg.Transcriber.load(tmp_path)
    assert served(sound, "de") == transcriber()(sound, "de") == pickle.loads(pickle.dumps(served))(sound, "de")
    assert dg.Transcriber.load(tmp_path, compute_type="int8", queue_limit=3)(sound, "de") is not None
    for field, value in (("no_timestamps_token_id", 10**6), ("lang_to_id", {"<|en|>": "1"}), ("task_to_id", [1])):
        (tmp_path / "generation_config.json").write_text(json.dumps(generation_of(tokenizer) | {field: value}))
        with pytest.raises(ValueError, match=rf"generation_config.json: {field}.* must be an"):
            dg.Transcriber.load(tmp_path)


def test_other_folders_are_refused(tmp_path):
    dg.Transformer(dg.TransformerConfig.tiny(vocab_size=80)).save(tmp_path)
    with pytest.raises(TypeError, match=r"^Transcriber: model must be a SpeechTransformer, got Transformer"):
        dg.Transcriber.load(tmp_path)
    with pytest.raises(TypeError, match=r"^Transcriber: model must be a SpeechTransformer, got int"):
        dg.Transcriber(3, None)


def test_classes_of_text_refuse_a_model_of_speech():
    served = transcriber()
    with pytest.raises(TypeError, match=r"^Translator: model must read text, got a SpeechTransformer"):
        dg.Translator(served.model, served.tokenizer)
