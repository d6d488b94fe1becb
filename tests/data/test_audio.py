"""Sound: log-mel frames beside their definition, .wav files, and pieces of a long sound."""

import math

import numpy as np
import pytest
from dragoman.data import log_mel, read_wav
from dragoman.data.audio import cut_pieces
from speech import write_wav

RATE, WINDOW, HOP = 16000, 400, 160


def hertz_of(mel):
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)


def plain_log_mel(samples, bins, frames):
    """By the definition: a discrete Fourier transform by its matrix, and triangles one by one."""
    whole = np.zeros(frames * HOP)
    whole[: len(samples)] = samples
    half = WINDOW // 2
    mirrored = np.concatenate([whole[half:0:-1], whole, whole[-2 : -half - 2 : -1]])
    times = np.arange(WINDOW)
    window = np.sin(np.pi * times / WINDOW) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(half + 1), times) / WINDOW)
    power = np.stack([abs(waves @ (window * mirrored[i * HOP : i * HOP + WINDOW])) ** 2 for i in range(frames)])
    top = 15 + math.log(8) / (math.log(6.4) / 27)
    edges = [hertz_of(top * i / (bins + 1)) for i in range(bins + 2)]
    mel = np.zeros((frames, bins))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for place in range(half + 1):
            hertz = place * RATE / WINDOW
            height = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            mel[:, band] += power[:, place] * max(0, height) * 2 / (high - low)
    logarithm = np.log10(np.maximum(mel, 1e-10))
    return (np.maximum(logarithm, logarithm.max() - 8) + 4) / 4


@pytest.mark.parametrize("samples", [0, 1, 161, 799, 1600])
@pytest.mark.parametrize("bins", [1, 7, 80, 128])
def test_log_mel_is_its_definition(samples, bins, rng):
    sound = rng.standard_normal(samples).astype(np.float32)
    found = log_mel(sound, bins, 10)
    assert (found.shape, found.dtype) == ((10, bins), np.float32)
    np.testing.assert_allclose(found, plain_log_mel(sound, bins, 10), rtol=0, atol=2e-6)


def test_a_tone_is_in_its_band():
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / RATE).astype(np.float32)
    found = log_mel(tone, 80, 50)
    edges = [hertz_of((15 + math.log(8) / (math.log(6.4) / 27)) * i / 81) for i in range(82)]
    band = found[25].argmax()
    assert edges[band] < 440 < edges[band + 2]
    np.testing.assert_allclose(log_mel(3 * tone, 80, 50)[25, band] - found[25, band], math.log10(9) / 4, rtol=1e-5)


def test_what_log_mel_refuses():
    for bad in (np.zeros((2, 3)), np.zeros(3, np.int16), np.zeros(1601), "sound"):
        with pytest.raises(ValueError, match=r"^log_mel: samples must be at most 1600 floats"):
            log_mel(bad, 5, 10)
    with pytest.raises(ValueError, match=r"mel_bins"):
        log_mel(np.zeros(3), 0)


def test_read_wav(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, [0, 16384, -32768, 32767])
    np.testing.assert_array_equal(read_wav(path), np.float32([0, 0.5, -1, 32767 / 32768]))
    write_wav(path, [[1024, 3072], [-4096, 0]], channels=2)
    np.testing.assert_array_equal(read_wav(str(path)), np.float32([2048, -2048]) / 32768)
    write_wav(path, [])
    assert read_wav(path).shape == (0,)


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, [1, 2], rate=8000)
    with pytest.raises(ValueError, match=r"a.wav: must hold 16-bit integers at 16000 Hz, got 16 bits at 8000 Hz"):
        read_wav(path)
    write_wav(path, [1, 2], width=1)
    with pytest.raises(ValueError, match=r"got 8 bits at 16000 Hz"):
        read_wav(path)
    whole = path.read_bytes()
    for content in (b"", b"RIFF", whole[:20], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.wav: not a .wav file of integers \([^)]+\)"):
            read_wav(path)
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "none.wav")


def test_pieces_end_where_it_is_quiet(rng):
    sound = rng.standard_normal(30 * RATE).astype(np.float32)
    for second in (7.5, 14.0, 20.0):
        sound[round(second * RATE) : round((second + 0.2) * RATE)] = 0
    pieces = cut_pieces(sound, 10 * RATE)
    assert (np.cumsum([len(piece) for piece in pieces]) / RATE).tolist() == [7.55, 14.05, 20.05, 30.0]
    np.testing.assert_array_equal(np.concatenate(pieces), sound)


def test_short_and_empty_sounds_are_not_cut():
    assert cut_pieces(np.zeros(0, np.float32), 50) == []
    assert [len(piece) for piece in cut_pieces(np.zeros(50, np.float32), 50)] == [50]
    pieces = cut_pieces(np.ones(51, np.float32), 2)
    assert sum(map(len, pieces)) == 51
    assert max(map(len, pieces)) <= 2
