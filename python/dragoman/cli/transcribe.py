"""dragoman transcribe: writes what is said in files of sound."""

from __future__ import annotations

import argparse
from collections import deque
from concurrent.futures import Future

from dragoman.cli.device_option import add_compute_type_argument, add_device_argument
from dragoman.cli.numbers import Number
from dragoman.cli.served import load_served
from dragoman.cli.translate import standard_output
from dragoman.data.audio import read_wav
from dragoman.predict import Transcriber

DESCRIPTION = """\
Writes what is said in each file to standard output, a line a file. Files are .wav of 16-bit integers at 16 kHz; of
several channels the mean is taken. A long sound is cut into pieces where it is quiet.

example:
  dragoman transcribe whisper-tiny.en talk.wav
"""

AHEAD = 8  # files that are read before the first of them is answered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a model of speech, as Whisper")
    parser.add_argument("files", metavar="FILE", nargs="+", help="a .wav file")
    parser.add_argument(
        "--language", metavar="CODE", help="what is spoken, as de (default: the most probable language of each piece)"
    )
    parser.add_argument(
        "--task",
        choices=("transcribe", "translate"),
        default="transcribe",
        help="translate writes English (default: transcribe)",
    )
    parser.add_argument(
        "--beam",
        type=Number(int, 1, 1000),
        metavar="N",
        help="beam size; 1 is greedy search (default: as the model says)",
    )
    add_compute_type_argument(parser)
    add_device_argument(parser)


def command(options: argparse.Namespace) -> None:
    """Transcribes the files, in their order."""
    write = standard_output()
    search = {} if options.beam is None else {"beam": options.beam}
    transcriber: Transcriber = load_served(Transcriber, options)
    waiting: deque[Future[str]] = deque()

    def answer() -> None:
        write(f"{' '.join(waiting.popleft().result().splitlines())}\n".encode())

    for path in options.files:
        waiting.append(transcriber.submit(read_wav(path), options.language, options.task, **search))
        if len(waiting) == AHEAD:
            answer()
    while waiting:
        answer()
