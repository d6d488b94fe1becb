"""Generates output from a trained model: greedy and beam search, samples, and scores of given outputs."""

from dragoman.generate.aligning import alignments, attention_maps
from dragoman.generate.generation import Generation, Hypothesis
from dragoman.generate.options import SearchOptions
from dragoman.generate.sampling import sample
from dragoman.generate.scoring import score
from dragoman.generate.search import generate, top_k
from dragoman.nn import KVCache

__all__ = [
    "Generation",
    "Hypothesis",
    "KVCache",
    "SearchOptions",
    "alignments",
    "attention_maps",
    "generate",
    "sample",
    "score",
    "top_k",
]
