"""Generates output from a trained model: greedy and beam search, samples, and translation of text."""

from dragoman.generate.sampling import sample
from dragoman.generate.search import Hypothesis, generate, top_k
from dragoman.generate.translator import Candidate
from dragoman.nn import KVCache

__all__ = ["Candidate", "Hypothesis", "KVCache", "generate", "sample", "top_k"]
