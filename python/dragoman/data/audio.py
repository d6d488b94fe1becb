"""Sound: reading it from a file, checking it, and cutting a long one into pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.log_mel import SAMPLE_RATE

Samples = npt.NDArray[np.float32]  # (samples,), from -1 to 1

_SEARCHED = 5 * SAMPLE_RATE  # samples at the end of a piece in which the quietest place is looked for
_PAUSE = SAMPLE_RATE // 10  # samples of that place


def read_wav(path: str | Path) -> Samples:
    """The samples of a .wav file of 16-bit integers at 16 kHz, float32 from -1 to 1; the mean of several channels.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: naming the file, when it is no such file.
    """
    arguments.check_path("read_wav", "path", path)
    arguments.check_regular(path)
    import wave  # seldom needed

    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a .wav file of integers ({str(error) or 'it is cut off'})") from None
    if width != 2 or rate != SAMPLE_RATE:
        raise ValueError(f"{path}: must hold 16-bit integers at {SAMPLE_RATE} Hz, got {8 * width} bits at {rate} Hz")
    values = np.frombuffer(content[: len(content) // (2 * channels) * (2 * channels)], "<i2").astype(np.float32)
    mean: Samples = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return mean / np.float32(32768)


def check_samples(op: str, name: str, samples: Any) -> Samples:
    """A sound as it is. TypeError, ValueError unless it is a float32 array (samples,) of finite numbers."""
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"{op}: {name} must be a float32 array of samples, got {type(samples).__name__}")
    if samples.dtype != np.float32:
        hint = "; divide int16 by 32768" if samples.dtype == np.int16 else ""
        raise TypeError(f"{op}: {name} must be float32 from -1 to 1, got dtype {samples.dtype}{hint}")
    if samples.ndim != 1:
        raise ValueError(f"{op}: {name} must have shape (samples,), of one channel, got {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{op}: {name} must be finite, got NaN or an infinity")
    return samples


def cut_pieces(samples: Samples, longest: int) -> list[Samples]:
    """A sound in pieces of at most `longest` samples. Each but the last ends where it is quietest in its last 5
    seconds, or in its second half where that is shorter, so that few words are cut."""
    pieces = []
    while len(samples) > longest:
        first = longest - min(_SEARCHED, longest // 2)
        sums = np.concatenate([[0.0], np.cumsum(np.square(samples[first:longest], dtype=np.float64))])
        pause = min(_PAUSE, longest - first)
        end = first + int(np.argmin(sums[pause:] - sums[:-pause])) + pause // 2
        pieces.append(samples[:end])
        samples = samples[end:]
    return [*pieces, samples] if len(samples) else pieces
