"""Concurrent callers of one translator, in a process of its own: `python callers.py SYSTEM ...`, see worker.py.

Each caller is a thread, which asks for the translation of a text, waits for it and asks for the next one. Texts are as
long as captions of pictures; a translation has as many tokens as its text.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export
from decoding import Record, reason_against, settings_of, write_model
from machine import machine
from worker import Worker, ask_in_turns, serve, started_workers
from works import LENGTHS, MODELS, Model

TEXTS = 1000


def make_texts(model: Model) -> list[str]:
    """The same ones at every call."""
    rng = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(model.vocab_size // 10)]
    lengths = rng.choices(list(LENGTHS), list(LENGTHS.values()), k=TEXTS)
    return [" ".join(rng.choices(words, k=length)) for length in lengths]


def save_model(model: Model, folder: Path) -> None:
    """With a tokenizer in which nearly every word of the texts is one token."""
    from dragoman.data import Tokenizer

    folder.mkdir()
    Tokenizer.train(make_texts(model), model.vocab_size - 256).save(folder / "tokenizer.json")
    export.dragoman_model(model).save(folder, beside=["tokenizer.json"])


Translate = Callable[[str, int], str]  # a text, and the beam


def dragoman_service(folder: Path, dtype: str) -> Translate:
    import dragoman as dg
    from dragoman.data.pairs import source_ids

    translator = dg.Translator.load(folder, compute_type=dtype)

    def translate(text: str, beam: int) -> str:
        (ids,) = source_ids(translator.tokenizer, [text])
        return translator.submit(text, beam=beam, max_length=len(ids)).result()

    return translate


def ctranslate2_service(folder: Path, dtype: str, setting: str) -> Translate:
    import ctranslate2
    from dragoman.data import Tokenizer
    from dragoman.data.pairs import source_ids
    from dragoman.data.tokenizer import with_token

    workers, each = map(int, setting.split("x"))
    system = ctranslate2.Translator(str(folder), compute_type=dtype, inter_threads=workers, intra_threads=each)
    tokenizer = Tokenizer.load(folder.with_name("dragoman") / "tokenizer.json")

    def translate(text: str, beam: int) -> str:
        (ids,) = source_ids(tokenizer, [text])
        (found,) = system.translate_batch(
            [[export.word_of(i) for i in ids]], beam_size=beam, max_decoding_length=len(ids)
        )
        return tokenizer.decode(with_token([export.id_of(word) for word in found.hypotheses[0]], tokenizer))

    return translate


def call(translate: Translate, texts: list[str], callers: int, beam: int, seconds: float) -> tuple[list[float], float]:
    """The seconds of each request, and those in which all were answered."""
    latencies: list[float] = []
    errors: list[BaseException] = []
    end = time.perf_counter() + seconds

    def run(first: int) -> None:
        try:
            for i in range(first, 10**9, callers):
                start = time.perf_counter()
                if start >= end:
                    return
                translate(texts[i % len(texts)], beam)
                latencies.append(time.perf_counter() - start)
        except BaseException as error:
            errors.append(error)

    start = time.perf_counter()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return latencies, time.perf_counter() - start


def answers_of(system: str, folder: Path, model: Model, dtype: str, threads: int) -> Callable[..., dict[str, Any]]:
    """Requests are answered by the seconds that texts took, those of 0 seconds by the translations of some texts."""
    kind, _, setting = system.partition(" ")
    if kind == "ctranslate2":
        translate = ctranslate2_service(folder, dtype, setting)
    else:
        translate = dragoman_service(folder, dtype)
    texts = make_texts(model)

    def answer(callers: int, beam: int, seconds: float) -> dict[str, Any]:
        if not seconds:
            return {"texts": [translate(text, beam) for text in texts[:8]]}
        latencies, spent = call(translate, texts, callers, beam, seconds)
        return {"latencies": latencies, "seconds": spent}

    return answer


def compare_requests(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns and prints a table; one record for each system, beam and number of callers."""
    model, dtype = MODELS[arguments.model], arguments.dtype
    cells = [{"callers": callers, "beam": beam} for beam in arguments.beam for callers in arguments.callers]
    with tempfile.TemporaryDirectory() as folder, started_workers() as workers:
        saved = Path(folder, "dragoman")
        save_model(model, saved)
        for system in ("dragoman", "ctranslate2"):
            if reason := reason_against(system, model, dtype):
                print(f"{system} is left out: {reason}")
                continue
            path = write_model(system, model, dtype, [], saved)
            for name in settings_of(system, arguments.threads):
                workers.append(Worker(__file__, name, path, arguments.model, dtype, arguments.threads))
            if system == "dragoman" and arguments.before:
                before = (path, arguments.model, dtype, arguments.threads, arguments.before)
                workers.append(Worker(__file__, "dragoman before", *before))
        check(workers, arguments.beam, dtype)
        found = ask_in_turns(workers, cells, [{"seconds": arguments.seconds}] * arguments.rounds)
    records = [_record(arguments, *key, answers) for key, answers in found.items()]
    print(f"{'':16} callers   beam requests/s  p50, ms  p99, ms")
    for record in records:
        figures = (f"{record[name]:10.1f}" for name in ("requests_per_s", "p50_ms", "p99_ms"))
        print(f"{record['system']:16} {record['callers']:7} {record['beam']:6}{''.join(figures)}")
    return records


def check(workers: list[Worker], beams: list[int], dtype: str) -> None:
    """All systems have to translate alike in float32. The first requests also end what is done once."""
    texts = {worker.system: [worker.measure(callers=1, beam=beam, seconds=0) for beam in beams] for worker in workers}
    first, *others = ([answer["texts"] for answer in answers] for answers in texts.values())
    if dtype == "float32" and any(other != first for other in others):
        raise SystemExit(f"the systems must translate alike, got {texts}")


def _record(
    arguments: argparse.Namespace, system: str, callers: int, beam: int, answers: list[dict[str, Any]]
) -> Record:
    latencies = [1e3 * latency for answer in answers for latency in answer["latencies"]]
    cuts = statistics.quantiles(latencies, n=100)
    return {
        "bench": "requests",
        "work": f"requests {arguments.model}",
        "system": system,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "callers": callers,
        "beam": beam,
        "requests_per_s": round(
            statistics.median(len(answer["latencies"]) / answer["seconds"] for answer in answers), 2
        ),
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "requests": len(latencies),
        "peak_mib": max(answer["peak_mib"] for answer in answers),
        **machine(),
    }


if __name__ == "__main__":
    serve(answers_of)
