"""Converts parameters from and to other libraries, without importing them."""

from dragoman.interop.torch import from_torch_state_dict, to_torch_state_dict

__all__ = ["from_torch_state_dict", "to_torch_state_dict"]
