"""log_mel: what a model of speech reads of a sound, the logarithm of its energy in bands of frequencies."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from dragoman import arguments

SAMPLE_RATE = 16_000  # samples a second
HOP = 160  # samples from one frame to the next
_WINDOW = 400  # samples of a frame
_LOWEST = 1e-10  # energy of silence
_RANGE = 8.0  # powers of 10 below the loudest value of a source; what is quieter counts as that


def log_mel(samples: npt.ArrayLike, mel_bins: int = 80, frames: int = 3000) -> npt.NDArray[np.float32]:
    """The log-mel frames of a sound at 16 kHz, as Whisper reads them (Radford et al. 2022, arXiv:2212.04356).

    Silence follows the sound up to `frames` frames of 10 ms. A frame is the power spectrum of the 25 ms around it, with
    a Hann window; the sound is mirrored at its ends. Bands follow the mel scale of Slaney's Auditory Toolbox, up to
    8 kHz. Values are (max(log10(energy), largest of them - 8) + 4) / 4.

    Args:
        samples: (samples,) real numbers, of at most `frames` frames.
        mel_bins: number of bands.
        frames: number of frames, at least 2.

    Returns:
        float32 (frames, mel_bins), computed in float64.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    mel_bins = arguments.size("log_mel", "mel_bins", mel_bins)
    frames = arguments.integer("log_mel", "frames", frames, 2)
    sound = np.asarray(samples)
    if sound.ndim != 1 or sound.dtype.kind != "f" or len(sound) > frames * HOP:
        expected = f"at most {frames * HOP} floats (samples,)"
        raise ValueError(f"log_mel: samples must be {expected}, got {sound.dtype} of shape {sound.shape}")
    whole = np.zeros(frames * HOP)
    whole[: len(sound)] = sound
    # Later frames see silence alone, unless the sound fills them all and is mirrored there.
    heard = min(frames, -(-(len(sound) + _WINDOW // 2) // HOP))
    mirrored = np.pad(whole, _WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, _WINDOW)[: heard * HOP : HOP]
    spectrum = np.fft.rfft(windows * _hann(), axis=1)
    energy = np.full((frames, mel_bins), _LOWEST)
    energy[:heard] = np.maximum((spectrum.real**2 + spectrum.imag**2) @ _filters(mel_bins), _LOWEST)
    logarithm = np.log10(energy)
    scaled: npt.NDArray[np.float64] = (np.maximum(logarithm, logarithm.max() - _RANGE) + 4) / 4
    return scaled.astype(np.float32)


@cache
def _hann() -> npt.NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)


@cache
def _filters(mel_bins: int) -> npt.NDArray[np.float64]:
    """How much of each frequency a band has, (frequencies, mel_bins): triangles of area 1 over Hz."""
    edges = _hertz(np.linspace(0, _mel(SAMPLE_RATE / 2), mel_bins + 2))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    triangles: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return triangles


# Slaney's mel scale: even steps below 1 kHz, even ratios above.

_BREAK, _STEP = 1000.0, 200 / 3  # Hz, and Hz of a step below
_RATIO = math.log(6.4) / 27  # of a step above


def _mel(hertz: float) -> float:
    return _BREAK / _STEP + math.log(hertz / _BREAK) / _RATIO


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    ratios = np.exp(_RATIO * (mel - _BREAK / _STEP))
    return np.where(mel < _BREAK / _STEP, _STEP * mel, _BREAK * ratios)
