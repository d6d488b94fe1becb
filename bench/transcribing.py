"""Whisper beside CTranslate2's, each in a process of its own: `python transcribing.py SYSTEM ...`, see worker.py.

Both read the same recording, cut into the same pieces of 30 seconds, from samples to tokens: the log-mel frames of both
are dragoman's. CTranslate2 reads a folder of its own with the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from decoding import settings_of
from machine import machine
from worker import Worker, ask_in_turns, serve, started_workers
from works import Model

Record = dict[str, Any]
Pieces = list[npt.NDArray[np.float32]]
Transcribe = Callable[[Pieces, int], list[list[int]]]  # pieces and the beam -> the ids of each

SECONDS = 30  # of a piece


def read_pieces(path: str, count: int) -> Pieces:
    """The first 30 seconds of a recording, repeated where it is shorter, `count` times."""
    from dragoman.data import read_wav

    sound = np.resize(read_wav(path), SECONDS * 16000)
    return [sound] * count


def dragoman_system(folder: Path, dtype: str) -> Transcribe:
    import dragoman as dg

    transcriber = dg.Transcriber.load(folder, compute_type=dtype, batch_tokens=10**6)

    def transcribe(pieces: Pieces, beam: int) -> list[list[int]]:
        return [transcriber.tokenizer.encode(f" {text}") for text in transcriber(pieces, beam=beam)]

    return transcribe


def ctranslate2_system(folder: Path, dtype: str, setting: str) -> Transcribe:
    import ctranslate2
    from dragoman.data import log_mel

    workers, each = map(int, setting.split("x"))
    system = ctranslate2.models.Whisper(str(folder), compute_type=dtype, inter_threads=workers, intra_threads=each)
    if system.is_multilingual:
        sys.exit("bench: the model must be of one language, as whisper-tiny.en")

    def transcribe(pieces: Pieces, beam: int) -> list[list[int]]:
        features = np.stack([log_mel(piece).T for piece in pieces])
        share = -(-len(pieces) // workers)
        parts = [
            system.generate(
                ctranslate2.StorageView.from_array(np.ascontiguousarray(features[i : i + share])),
                [["<|startoftranscript|>", "<|notimestamps|>"]] * len(features[i : i + share]),
                beam_size=beam,
                asynchronous=True,
            )
            for i in range(0, len(pieces), share)
        ]
        return [each.result().sequences_ids[0] for part in parts for each in part]

    return transcribe


def answers_of(system: str, folder: Path, model: Model, dtype: str, threads: int) -> Callable[..., dict[str, Any]]:
    """A request is answered by the ids of the first piece and the seconds that calls took, at least one call."""
    setting = system.partition(" ")[2]
    transcribe = ctranslate2_system(folder, dtype, setting) if setting else dragoman_system(folder, dtype)

    def answer(audio: str, batch: int, beam: int, seconds: float) -> dict[str, Any]:
        pieces, times = read_pieces(audio, batch), []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            ids = transcribe(pieces, beam)
            times.append(time.perf_counter() - start)
        return {"ids": ids[0], "times": times}

    return answer


def compare_transcribing(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns and prints a table; one record for each system, batch and beam."""
    folders = {"dragoman": arguments.folder, "ctranslate2": arguments.ctranslate2}
    if None in (*folders.values(), arguments.audio):
        sys.exit("transcribe needs --folder, --ctranslate2 and --audio")
    if not find_spec("ctranslate2"):
        sys.exit("ctranslate2 is not installed")
    cells = [{"batch": batch, "beam": beam} for beam in arguments.beam for batch in arguments.batch]
    audio = str(arguments.audio)
    turns = [{"audio": audio, "seconds": arguments.seconds}] * arguments.rounds
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    with started_workers() as workers:
        for system, folder in folders.items():
            for name in settings_of(system, arguments.threads):
                workers.append(Worker(__file__, name, folder, "base", arguments.dtype, arguments.threads))
        for cell in cells:
            first = [worker.measure(**cell, audio=audio, seconds=0)["ids"] for worker in workers]  # also warms up
            if arguments.dtype == "float32" and any(ids != first[0] for ids in first):
                print(f"beam {cell['beam']}: the systems write other tokens")
            found |= ask_in_turns(workers, [cell], turns)
    records = [_record(arguments, *key, answers) for key, answers in found.items()]
    print(f"{'':16} pieces   beam  seconds  of real time")
    for record in records:
        figures = f"{record['batch']:7} {record['beam']:6} {record['seconds']:8.3f} {record['real_time_factor']:13.5f}"
        print(f"{record['system']:16} {figures}")
    return records


def _record(arguments: argparse.Namespace, system: str, batch: int, beam: int, answers: list[dict[str, Any]]) -> Record:
    seconds = statistics.median(time for answer in answers for time in answer["times"])
    return {
        "bench": "transcribe",
        "work": f"transcribe {arguments.folder.name}",
        "system": system,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "batch": batch,
        "beam": beam,
        "tokens": len(answers[0]["ids"]),
        "seconds": round(seconds, 4),
        "real_time_factor": round(seconds / (batch * SECONDS), 6),
        "peak_mib": max(answer["peak_mib"] for answer in answers),
        **machine(),
    }


if __name__ == "__main__":
    serve(answers_of)
