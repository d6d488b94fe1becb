"""Draws the loss of a training run and attention weights, as matplotlib figures or files (extra `plot`)."""

from dragoman.plot.figures import attention, loss

__all__ = ["attention", "loss"]
