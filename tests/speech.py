"""A tiny model of speech, its tokenizer and its generation_config.json."""

import wave

import dragoman as dg
import numpy as np
from dragoman.models import SpeechConfig, SpeechTransformer

SIZES = {"d_model": 12, "num_heads": 2, "d_ff": 20, "num_encoder_layers": 1, "num_decoder_layers": 2, "mel_bins": 5}
ROWS = 30  # of the encoder, 0.6 seconds


def speech_model(vocab_size=29, seed=3, **fields):
    dg.manual_seed(seed)
    config = {
        **{"vocab_size": vocab_size, **SIZES, "encoder": {"num_heads": 3, "max_length": ROWS}, "max_length": 24},
        **{"positions": "learned", "norm_first": True, "activation": "gelu", "attention_bias": "qvo"},
        **{"scale_embeddings": False, "dropout": 0.0, "embedding_dropout": 0.0},
        **{"pad_id": None, "bos_id": None, "eos_id": 2, "unk_id": None, "start_id": 3},
    }
    return SpeechTransformer(SpeechConfig(**config | fields))


def frames_of(rng, *counts):
    return [rng.standard_normal((count, SIZES["mel_bins"])).astype(np.float32) for count in counts]


def sound_of(rng, samples):
    return (0.1 * rng.standard_normal(samples)).astype(np.float32)


def speech_tokenizer():
    return dg.Tokenizer.train(["the dog runs and the cat sleeps"] * 4, vocab_size=64)


def generation_of(tokenizer):
    """Languages and tasks have the ids after those of the tokenizer."""
    first = tokenizer.vocab_size
    return {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": first, "<|de|>": first + 1, "<|ko|>": first + 2},
        "task_to_id": {"transcribe": first + 3, "translate": first + 4},
        "no_timestamps_token_id": first + 5,
        "suppress_tokens": [*range(first, first + 6)],
        "begin_suppress_tokens": [2],
    }


def transcriber(generation=True, **limits):
    tokenizer = speech_tokenizer()
    model = speech_model(tokenizer.vocab_size + 6).eval()
    return dg.Transcriber(model, tokenizer, generation_of(tokenizer) if generation else None, **limits)


def write_wav(path, values, channels=1, rate=16000, width=2):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(values, f"<i{width}" if width > 1 else "u1").tobytes())
