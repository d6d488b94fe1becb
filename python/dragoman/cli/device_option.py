"""The option of every command that computes: on which device."""

from __future__ import annotations

import argparse

from dragoman import cuda

DEVICES = ("cpu", "cuda", "auto")


def add_device_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--device",
        type=device,
        default="cpu",
        metavar="DEVICE",
        help="cpu, cuda, or auto: cuda where it can be used (default: cpu)",
    )


def device(text: str) -> str:
    """The device that a text names: "cpu" or "cuda". ArgumentTypeError for another one, and for one not there."""
    if text not in DEVICES:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(DEVICES)}, got {text!r}")
    sentence = cuda_sentence()
    if text == "cuda" and sentence != "ready":
        raise argparse.ArgumentTypeError(sentence)
    return "cuda" if sentence == "ready" and text != "cpu" else "cpu"


def cuda_sentence() -> str:
    """ "ready", or why CUDA cannot be used; without the hint about an argument of Python."""
    return cuda.status().removeprefix("device: ").removesuffix('; use device="cpu"')
