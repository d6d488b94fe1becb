"""The option of every command that computes: on which device."""

from __future__ import annotations

import argparse

from dragoman import cuda

DEVICES = ("cpu", "cuda", "auto")


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="where to compute; auto is cuda where that can be used (default: cpu)",
    )


def device(choice: str) -> str:
    """The device that --device names: "cpu" or "cuda". ValueError for one that is not there."""
    available = choice != "cpu" and cuda.is_available()
    if choice == "cuda" and not available:
        raise ValueError(f"--device cuda: {cuda.status()}")
    return "cuda" if available else "cpu"
