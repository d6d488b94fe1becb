"""Draws the loss of a training run and attention weights: matplotlib figures or files (extra `plot`), and a page."""

from dragoman.plot.figures import attention, loss
from dragoman.plot.page import attention_page

__all__ = ["attention", "attention_page", "loss"]
