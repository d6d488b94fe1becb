"""Whether CUDA can be used on this machine."""

from __future__ import annotations

from dragoman import _core

# GPUs with a table in bench/results. While there is none, the kernels have run on the emulator of the tests only.
PROVED_ON: tuple[str, ...] = ()


def status() -> str:
    """One sentence: "ready" and on what the kernels were proved, or why tensors cannot go to "cuda"."""
    try:
        _core.check_device("cuda", "cuda")
    except ValueError as error:
        return str(error).removeprefix("device: ").removesuffix('; use device="cpu"')
    return f"ready; proved on {' and '.join(PROVED_ON) or 'the emulator only'}"


def is_available() -> bool:
    """Whether tensors can go to "cuda"."""
    return status().startswith("ready")
