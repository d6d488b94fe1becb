"""The options of every command that computes: on which device, and with which weights."""

from __future__ import annotations

import argparse

from dragoman import cuda
from dragoman.models.folder import COMPUTE_TYPES

DEVICES = ("cpu", "cuda", "auto")


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="where to compute; auto is cuda where that can be used (default: cpu)",
    )


def add_compute_type_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--compute-type",
        choices=COMPUTE_TYPES,
        default="default",
        help="of weights: int8 and bfloat16 are faster and take less memory (default: as the model was saved)",
    )


def device(choice: str) -> str:
    """The device that --device names: "cpu" or "cuda". ValueError for one that is not there."""
    available = choice != "cpu" and cuda.is_available()
    if choice == "cuda" and not available:
        raise ValueError(f"--device cuda: {cuda.status()}")
    return "cuda" if available else "cpu"
