"""Text files, the tokenizer, token ids on the disk, and batches."""

from dragoman.data.batches import Batches
from dragoman.data.columns import Columns, Dataset, Table
from dragoman.data.held_out import Subset, hold_out
from dragoman.data.shards import Shards, tokenize, write_shards
from dragoman.data.text import Column, iter_lines, iter_parallel, read_lines, read_parallel, sample_lines
from dragoman.data.tokenizer import Tokenizer

__all__ = [
    "Batches",
    "Column",
    "Columns",
    "Dataset",
    "Shards",
    "Subset",
    "Table",
    "Tokenizer",
    "hold_out",
    "iter_lines",
    "iter_parallel",
    "read_lines",
    "read_parallel",
    "sample_lines",
    "tokenize",
    "write_shards",
]
