"""Ids of many texts by the `tokenizers` library, whose threads must never fail to start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dragoman import _core

_FEW = 16  # texts for which its threads bring nothing

_SWITCH = "TOKENIZERS_PARALLELISM"  # the library reads it before it uses its threads

_started = False


def threads_can_start() -> bool:
    """Whether the library may be called with many texts.

    Its first call with many starts its threads. Where one cannot be started, it fails for the rest of the process.
    """
    global _started
    if not _started:
        asked = os.environ.get("RAYON_NUM_THREADS", "")
        wanted = int(asked) if asked.isdecimal() and asked != "0" else os.cpu_count() or 1
        _started = _core.startable_threads(min(wanted, 1024)) >= min(wanted, 1024)
    return _started


def encodings(backend: Any, texts: Sequence[str]) -> list[Any]:
    """The library's encoding of each text, without special tokens."""
    if not texts:
        return []
    if len(texts) > _FEW and threads_can_start():
        return list(backend.encode_batch_fast(list(texts), add_special_tokens=False))
    return [backend.encode(text, add_special_tokens=False) for text in texts]


def _after_fork() -> None:
    """A child has not the library's threads, and a call would wait for them for ever."""
    if _started:
        os.environ[_SWITCH] = "false"


os.register_at_fork(after_in_child=_after_fork)
