"""Training by several processes that share the batches of each step: see docs/guide/scaling.md."""

from dragoman.distributed.launch import is_first, leave, this_process
from dragoman.distributed.ranks import ALONE, Ranks

__all__ = ["ALONE", "Ranks", "is_first", "leave", "this_process"]
