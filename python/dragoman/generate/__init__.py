"""Generates output from a trained model: greedy and beam search, and samples."""

from dragoman.generate.sampling import sample
from dragoman.generate.search import Hypothesis, generate, top_k
from dragoman.nn import KVCache

__all__ = ["Hypothesis", "KVCache", "generate", "sample", "top_k"]
