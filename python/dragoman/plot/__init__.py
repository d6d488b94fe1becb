"""Pictures of training and of attention, as files."""

from dragoman.plot.figures import attention, loss

__all__ = ["attention", "loss"]
