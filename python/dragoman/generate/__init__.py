"""Generates output from a trained model: greedy and beam search, and translation of text."""

from dragoman.generate.search import Hypothesis, generate, top_k
from dragoman.generate.translator import Candidate
from dragoman.nn import KVCache

__all__ = ["Candidate", "Hypothesis", "KVCache", "generate", "top_k"]
