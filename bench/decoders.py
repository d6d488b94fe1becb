"""The systems that decode, each in a process of its own: `python decoders.py SYSTEM ...` reads a request a line.

Every system gets the same random sources, `LENGTH` tokens each, and writes `LENGTH` tokens for each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from export import id_of, read_state, transformers_model, word_of
from worker import serve
from works import BOS, FIRST_WORD, Model

LENGTH = 32  # source tokens, and exactly as many target tokens

Ids = npt.NDArray[np.int64]


def make_sources(model: Model, batch: int, seed: int) -> Iterator[Ids]:
    """Fresh batches, (batch, LENGTH), the same ones at every call."""
    rng = np.random.default_rng([seed, batch])
    while True:
        yield rng.integers(FIRST_WORD, model.vocab_size, (batch, LENGTH))


class Decoder:
    """A system with its model. `run` alone is timed: what it takes and returns may have the system's own form."""

    def inputs(self, ids: Ids) -> Any:
        return ids.tolist()

    def run(self, inputs: Any, beam: int) -> Any:
        """Greedy search where `beam` is 1."""
        raise NotImplementedError

    def ids(self, outputs: Any) -> list[list[int]]:
        return list(outputs)


class Dragoman(Decoder):
    def __init__(self, folder: Path, model: Model, dtype: str, threads: int) -> None:
        import inspect

        import dragoman as dg
        from dragoman.generate import generate

        self._generate = generate
        if "compute_type" in inspect.signature(dg.load).parameters:
            self._model = dg.load(folder, compute_type=dtype)
        elif dtype == "float32":
            self._model = dg.load(folder)
        else:
            sys.exit(f"this dragoman does not decode in {dtype}")

    def run(self, inputs: Any, beam: int, length: int = LENGTH) -> Any:
        return self._generate(self._model, inputs, beam=beam, max_length=length)

    def ids(self, outputs: Any) -> list[list[int]]:
        return [best.ids for best, *_ in outputs]


class CTranslate2(Decoder):
    """Named by its threads: "ctranslate2 2x1" has two workers of one thread each."""

    def __init__(self, folder: Path, model: Model, dtype: str, threads: int, setting: str = "") -> None:
        import ctranslate2

        self._workers, each = map(int, setting.split("x"))
        kind = ctranslate2.Generator if model.decoder_only else ctranslate2.Translator
        self._system = kind(
            str(folder), device="cpu", compute_type=dtype, inter_threads=self._workers, intra_threads=each
        )
        self._decoder_only = model.decoder_only

    def inputs(self, ids: Ids) -> Any:
        return [[word_of(i) for i in row] for row in ids.tolist()]

    def run(self, inputs: Any, beam: int) -> Any:
        share = -(-len(inputs) // self._workers)
        if self._decoder_only:
            found = self._system.generate_batch(
                inputs, beam_size=beam, max_length=LENGTH, max_batch_size=share, include_prompt_in_result=False
            )
            return [result.sequences[0] for result in found]
        found = self._system.translate_batch(inputs, beam_size=beam, max_decoding_length=LENGTH, max_batch_size=share)
        return [result.hypotheses[0] for result in found]

    def ids(self, outputs: Any) -> list[list[int]]:
        return [[id_of(word) for word in row] for row in outputs]


class Transformers(Decoder):
    def __init__(self, folder: Path, model: Model, dtype: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision("highest")
        self._model = transformers_model(read_state(folder), model).to(getattr(torch, dtype)).eval()
        self._torch, self._decoder_only = torch, model.decoder_only

    def inputs(self, ids: Ids) -> Any:
        return self._torch.from_numpy(ids)

    def run(self, inputs: Any, beam: int) -> Any:
        with self._torch.inference_mode():
            return self._model.generate(
                inputs,
                attention_mask=self._torch.ones_like(inputs),
                num_beams=beam,
                do_sample=False,
                max_new_tokens=LENGTH,
            )

    def ids(self, outputs: Any) -> list[list[int]]:
        return [row[LENGTH if self._decoder_only else 1 :] for row in outputs.tolist()]


class Beams:
    """The search around a graph that returns the `beam` best log probabilities and ids of each row."""

    def __init__(self, batch: int, beam: int) -> None:
        self._scores = np.full((batch, beam), -np.inf, np.float32)
        self._scores[:, 0] = 0
        self._first = beam * np.arange(batch)[:, None]  # row of each sentence
        self._steps: list[tuple[Ids, Ids]] = []

    def step(self, best: npt.NDArray[np.float32], tokens: Ids) -> tuple[Ids, Ids]:
        """(rows, beam) each -> the token of each new row, (rows, 1), and the row that it goes on from, (rows,)."""
        batch, beam = self._scores.shape
        totals = (self._scores[:, :, None] + best.reshape(batch, beam, beam)).reshape(batch, beam * beam)
        chosen = np.argsort(-totals, axis=1, kind="stable")[:, :beam]
        self._scores = np.take_along_axis(totals, chosen, axis=1)
        parents = (self._first + chosen // beam).reshape(-1)
        ids = np.take_along_axis(tokens.reshape(batch, beam * beam), chosen, axis=1).reshape(-1, 1)
        self._steps.append((ids.reshape(-1), parents))
        return ids, parents

    def best(self) -> list[list[int]]:
        """The ids of each sentence's best hypothesis, which is its first row."""
        rows = self._first[:, 0]
        columns = []
        for ids, parents in reversed(self._steps):
            columns.append(ids[rows])
            rows = parents[rows]
        return np.stack(columns[::-1], axis=1).tolist()


def onnx_session(path: Path, threads: int) -> Any:
    """An onnxruntime session of a graph, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OnnxRuntime(Decoder):
    def __init__(self, folder: Path, model: Model, dtype: str, threads: int) -> None:
        import onnxruntime

        self._graphs = {path.stem: onnx_session(path, threads) for path in sorted(folder.glob("*.onnx"))}
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._heads, self._head_dim = model.num_heads, model.d_model // model.num_heads

    def inputs(self, ids: Ids) -> Any:
        return ids

    def run(self, inputs: Any, beam: int) -> Any:
        encoder, step, value = self._graphs["encoder"], self._graphs[f"step{beam}"], self._value
        names = [output.name for output in encoder.get_outputs()]
        sources = dict(zip(names, encoder.run_with_ort_values(names, {"ids": value(inputs)}), strict=True))
        rows = len(inputs) * beam
        new = [output.name for output in step.get_outputs()][2:]
        empty = np.zeros((rows, self._heads, 0, self._head_dim), np.float32)
        past = {name.replace("new", "past"): value(empty) for name in new}
        beams, ids, parents = Beams(len(inputs), beam), np.full((rows, 1), BOS), np.arange(rows)
        for position in range(LENGTH):
            fed = {"ids": value(ids), "position": value(np.array([position])), "parents": value(parents)}
            best, tokens, *kept = step.run_with_ort_values(["best", "tokens", *new], fed | past | sources)
            past = dict(zip(past, kept, strict=True))
            ids, parents = beams.step(best.numpy(), tokens.numpy())
        return beams.best()


class OpenVino(Decoder):
    def __init__(self, folder: Path, model: Model, dtype: str, threads: int) -> None:
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        self._graphs = {
            path.stem: core.compile_model(path, "CPU", settings).create_infer_request()
            for path in sorted(folder.glob("*.xml"))
        }
        self._tensor = openvino.Tensor

    def inputs(self, ids: Ids) -> Any:
        return ids

    def run(self, inputs: Any, beam: int) -> Any:
        encoder, step = self._graphs["encoder"], self._graphs[f"step{beam}"]
        encoder.infer({"ids": inputs}, share_inputs=True)
        step.reset_state()
        for output in encoder.model_outputs:
            step.set_tensor(output.get_any_name(), encoder.get_tensor(output.get_any_name()))
        rows = len(inputs) * beam
        beams, ids, parents = Beams(len(inputs), beam), np.full((rows, 1), BOS), np.arange(rows)
        for position in range(LENGTH):
            for name, values in {"ids": ids, "position": np.array([position]), "parents": parents}.items():
                step.set_tensor(name, self._tensor(values))
            step.infer()
            ids, parents = beams.step(step.get_tensor("best").data, step.get_tensor("tokens").data)
        return beams.best()


DECODERS = {
    "dragoman": Dragoman,
    "ctranslate2": CTranslate2,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "transformers": Transformers,
}


def make_decoder(system: str, folder: Path, model: Model, dtype: str, threads: int) -> Decoder:
    """By the name in the records: "dragoman before" is a Dragoman, "ctranslate2 2x1" a CTranslate2 with a setting."""
    kind, _, setting = system.partition(" ")
    if kind == "ctranslate2":
        return CTranslate2(folder, model, dtype, threads, setting)
    return DECODERS[kind](folder, model, dtype, threads)


def take_turn(decoder: Decoder, model: Model, batch: int, beam: int, seed: int, seconds: float) -> list[float]:
    """Seconds of each call. The first one fills caches that others have emptied: it counts only if it is that long."""
    times: list[float] = []
    spent = 0.0
    for ids in make_sources(model, batch, seed):
        inputs = decoder.inputs(ids)
        start = time.perf_counter()
        outputs = decoder.run(inputs, beam)
        times.append(time.perf_counter() - start)
        check_outputs(decoder.ids(outputs), batch)
        if len(times) > 1 or times[0] >= seconds:
            spent += times[-1]
        if spent >= seconds:
            return times if len(times) == 1 else times[1:]
    raise AssertionError


def check_outputs(outputs: list[list[int]], batch: int) -> None:
    """The process ends unless each sentence has exactly LENGTH tokens."""
    if [len(ids) for ids in outputs] != [LENGTH] * batch:
        sys.exit(f"outputs must be {batch} of {LENGTH} tokens, got {[len(ids) for ids in outputs]}")


def answers_of(system: str, folder: Path, model: Model, dtype: str, threads: int) -> Callable[..., dict[str, Any]]:
    """Requests are answered by the seconds of calls, those of 0 seconds by the ids of a batch."""
    decoder = make_decoder(system, folder, model, dtype, threads)

    def answer(batch: int, beam: int, seed: int, seconds: float) -> dict[str, Any]:
        if seconds:
            return {"times": take_turn(decoder, model, batch, beam, seed, seconds)}
        ids = next(make_sources(model, batch, seed))
        return {"ids": decoder.ids(decoder.run(decoder.inputs(ids), beam))}

    return answer


if __name__ == "__main__":
    serve(answers_of)
