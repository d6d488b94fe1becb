"""Whether CUDA can be used on this machine."""

from __future__ import annotations

from dragoman import _core


def status() -> str:
    """One sentence: "ready", or why tensors cannot go to "cuda"."""
    try:
        _core.check_device("cuda", "cuda")
    except ValueError as error:
        return str(error)
    return "ready"
