"""Opening a checkpoint of the Hugging Face libraries: seconds and largest memory, beside transformers.

    python bench/checkpoints.py [--models 60M 600M] [--dtypes float32 float16] [--repeats 5]

Writes a T5 of 60 million parameters and an M2M100 of 600 million (12 layers of 1024 a side and a vocabulary of
256,206, as the smallest NLLB) with random weights, and opens each in fresh processes; the systems take turns.
transformers, where it is installed, opens them as float32, too. Prints one JSON line for each: medians of the seconds
to open it and then to run it on a few tokens, three times, and of the largest memory beyond that after the import, also
as a multiple of the float32 weights: when opened, after the first run and after the third. transformers maps float32
files: their pages count when they are read. dragoman packs the weights when it runs again; "dragoman float32" is
`compute_type="float32"`, frozen, which keeps the packed ones alone. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, memory

SYSTEMS = ("dragoman", "dragoman float32", "transformers")
T5 = {
    **{"vocab_size": 32128, "d_model": 512, "num_heads": 8, "head_dim": 64, "d_ff": 2048, "norm": "rms"},
    **{"num_encoder_layers": 6, "num_decoder_layers": 6, "norm_first": True, "norm_eps": 1e-6, "positions": "relative"},
    **{"attention_scale": 1.0, "attention_bias": "", "feed_forward_bias": False, "scale_embeddings": False},
    **{"start_id": 0, "pad_id": 0, "eos_id": 1, "bos_id": None, "unk_id": None, "output_scale": 512**-0.5},
}
NLLB = {
    **{"vocab_size": 256206, "d_model": 1024, "num_heads": 16, "d_ff": 4096, "norm_first": True},
    **{"num_encoder_layers": 12, "num_decoder_layers": 12, "position_layout": "fairseq", "position_offset": 2},
    **{"pad_id": 1, "bos_id": 0, "eos_id": 2, "unk_id": None, "start_id": 2},
}
MODELS = {"60M": ("t5", T5), "600M": ("m2m_100", NLLB)}


def write(folder: Path, name: str, dtype: str) -> int:
    """Writes a checkpoint with random weights. Returns the number of its parameters."""
    import dragoman as dg
    from dragoman.files import SafetensorsFile, write_arrays

    model_type, fields = MODELS[name]
    model = dg.Transformer(dg.TransformerConfig(**fields))
    model.save_pretrained(folder, model_type)
    if dtype == "float16":
        path = folder / "model.safetensors"
        file = SafetensorsFile(path)
        write_arrays(path, {name: file.array(name).astype(np.float16) for name in file.headers}, {"format": "pt"})
    return model.num_parameters()


def measure(system: str, folder: str) -> None:
    """Prints seconds and bytes of one opening, in a process of its own."""
    source, target = [list(range(3, 19))], [[2, *range(3, 18)]]
    if system.startswith("dragoman"):
        import dragoman

        kind = "float32" if system.endswith("float32") else "default"

        def opened(folder: str) -> Any:
            return dragoman.load(folder, kind)

        def run(model: Any) -> None:
            model.logits(source, target)
    else:
        import torch
        from transformers import M2M100ForConditionalGeneration, T5ForConditionalGeneration
        from transformers.utils import logging

        logging.disable_progress_bar()
        is_t5 = json.loads(Path(folder, "config.json").read_text())["model_type"] == "t5"
        model_class: Any = T5ForConditionalGeneration if is_t5 else M2M100ForConditionalGeneration

        def opened(folder: str) -> Any:
            return model_class.from_pretrained(folder, dtype=torch.float32)

        def run(model: Any) -> None:
            with torch.no_grad():
                model(input_ids=torch.tensor(source), decoder_input_ids=torch.tensor(target))

    before, begin = memory("VmRSS"), time.perf_counter()
    model = opened(folder)
    seconds, used = [time.perf_counter() - begin], [memory("VmHWM") - before]
    for _ in range(3):
        begin = time.perf_counter()
        run(model)
        seconds.append(time.perf_counter() - begin)
        used.append(memory("VmHWM") - before)
    print(json.dumps([*seconds, *used]))


def compare(name: str, dtype: str, repeats: int) -> None:
    systems = [system for system in SYSTEMS if importlib.util.find_spec(system.split()[0])]
    found: dict[str, list[list[float]]] = {system: [] for system in systems}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__]
        made = subprocess.run([*command, "--write", folder, name, dtype], check=True, capture_output=True, text=True)
        parameters = int(made.stdout)
        for turn in range(repeats + 1):
            for system in systems[:: -1 if turn % 2 else 1]:  # memory that a process has just freed comes sooner
                run = subprocess.run(
                    [*command, "--measure", system, folder], check=True, stdout=subprocess.PIPE, text=True
                )
                found[system].append(json.loads(run.stdout.splitlines()[-1]))
    for system, runs in found.items():
        counted = runs[1:]  # the first fills the cache
        opening, first, second, third, opened, once, _, thrice = map(statistics.median, zip(*counted, strict=True))
        record = {
            "bench": "checkpoints",
            "model": name,
            "parameters": parameters,
            "dtype": dtype,
            "system": system,
            "open_seconds": round(opening, 3),
            "run_seconds": round(first, 3),
            "second_run_seconds": round(second, 3),
            "third_run_seconds": round(third, 3),
            "open_peak_mib": round(opened / 2**20),
            "open_peak_of_weights": round(opened / (4 * parameters), 2),
            "run_peak_mib": round(once / 2**20),
            "run_peak_of_weights": round(once / (4 * parameters), 2),
            "third_run_peak_mib": round(thrice / 2**20),
            "third_run_peak_of_weights": round(thrice / (4 * parameters), 2),
            "repeats": repeats,
            **machine(),
        }
        print(json.dumps(record), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "float16"], default=["float32", "float16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(write(Path(options.write[0]), *options.write[1:]))
    elif options.measure:
        measure(*options.measure)
    else:
        for name in options.models:
            for dtype in options.dtypes:
                compare(name, dtype, options.repeats)


if __name__ == "__main__":
    main()
