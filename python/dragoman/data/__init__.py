"""Files of text, of tagged words, of images and of sound; the tokenizer, token ids on the disk, and batches."""

from dragoman.data.audio import read_wav
from dragoman.data.batches import Batches
from dragoman.data.bpe_dropout import BpeDropout
from dragoman.data.columns import Columns, Dataset, Table
from dragoman.data.conll import iter_conll
from dragoman.data.held_out import Subset, hold_out
from dragoman.data.images import image_files, iter_images, read_arrays, read_image
from dragoman.data.log_mel import log_mel
from dragoman.data.shards import Shards, tokenize, write_shards
from dragoman.data.text import (
    Column,
    iter_lines,
    iter_parallel,
    iter_texts,
    read_lines,
    read_parallel,
    sample_lines,
)
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.tsv import iter_tsv

__all__ = [
    "Batches",
    "BpeDropout",
    "Column",
    "Columns",
    "Dataset",
    "Shards",
    "Subset",
    "Table",
    "Tokenizer",
    "hold_out",
    "image_files",
    "iter_conll",
    "iter_images",
    "iter_lines",
    "iter_parallel",
    "iter_texts",
    "iter_tsv",
    "log_mel",
    "read_arrays",
    "read_image",
    "read_lines",
    "read_parallel",
    "read_wav",
    "sample_lines",
    "tokenize",
    "write_shards",
]
