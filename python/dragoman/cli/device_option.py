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
    sentence = "ready" if choice == "cpu" else cuda_sentence()
    if choice == "cuda" and sentence != "ready":
        raise ValueError(f"--device cuda: {sentence}")
    return "cuda" if choice != "cpu" and sentence == "ready" else "cpu"


def cuda_sentence() -> str:
    """ "ready", or why CUDA cannot be used; without the hint about an argument of Python."""
    return cuda.status().removeprefix("device: ").removesuffix('; use device="cpu"')
