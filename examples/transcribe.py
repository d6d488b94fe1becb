"""Writes what is said in a .wav file of 16-bit integers at 16 kHz, by a model as Whisper.

    python examples/transcribe.py [FOLDER FILE.wav] [--language de] [--task translate]

FOLDER is a checkpoint of Whisper as it is published: config.json, generation_config.json, model.safetensors and
tokenizer.json. Without arguments, the script makes a folder with a tiny model that has learned to tell two tones apart,
and a file that it reads: each tone has a word.
"""

from __future__ import annotations

import argparse
import tempfile
import wave
from pathlib import Path

import dragoman as dg
import numpy as np
from dragoman.data import log_mel, read_wav
from dragoman.models import SpeechConfig, SpeechTransformer
from dragoman.optim import AdamW

RATE = 16000
SECONDS = 1  # of a source of the tiny model
WORDS = {440: "low", 1760: "high"}  # by the tone's frequency in Hz


def tone(hertz: float, seed: int) -> np.ndarray:
    """Half a second of a tone, after up to half a second of silence, with some noise: float32 (samples,)."""
    rng = np.random.default_rng(seed)
    sound = np.concatenate(
        [np.zeros(rng.integers(RATE // 2)), 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE / 2) / RATE)]
    )
    return (sound + 0.01 * rng.standard_normal(len(sound))).astype(np.float32)


def make_folder(folder: Path) -> None:
    """Trains a tiny model and saves it with its tokenizer."""
    dg.manual_seed(0)
    tokenizer = dg.Tokenizer.train([*WORDS.values()] * 9, vocab_size=64)
    side = {"d_model": 32, "num_heads": 2, "d_ff": 64, "num_encoder_layers": 1, "num_decoder_layers": 1}
    config = SpeechConfig(
        vocab_size=tokenizer.vocab_size,
        mel_bins=16,
        encoder={"max_length": 50 * SECONDS},  # two frames of 10 ms a row
        max_length=16,
        positions="learned",
        norm_first=True,
        **side,
    )
    model = SpeechTransformer(config)
    optimizer = AdamW(model, lr=5e-3)
    for step in range(40):
        sounds = [(tone(hertz, step), word) for hertz, word in WORDS.items()]
        frames = [log_mel(sound, config.mel_bins, 100 * SECONDS) for sound, _ in sounds]
        loss = model.loss(frames, [tokenizer.encode(word) for _, word in sounds])
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")
    model.save(folder)
    tokenizer.save(folder / "tokenizer.json")


def write_wav(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--language")
    parser.add_argument("--task", default="transcribe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, path = options.folder, options.file
        if folder is None or path is None:
            folder, path = Path(temporary) / "tones", Path(temporary) / "tones.wav"
            make_folder(folder)
            write_wav(path, tone(1760, 99))
        transcriber = dg.Transcriber.load(folder)
        print(transcriber(read_wav(path), options.language, options.task))


if __name__ == "__main__":
    main()
