"""SIGKILL at random moments of training and saving. DRAGOMAN_KILLED_RUNS=20 kills 200 times."""

import json
import multiprocessing
import os
import time

import dragoman as dg
import numpy as np
import pytest
from dragoman import Trainer, Transformer, TransformerConfig
from dragoman.train.checkpoint import CheckpointFolder
from safetensors.numpy import load_file

CONFIG = TransformerConfig(
    vocab_size=20, d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1, dropout=0.2
)
RUNS = int(os.environ.get("DRAGOMAN_KILLED_RUNS", "1"))
KILLS = 10  # of a run


def pairs():
    rng = np.random.default_rng(7)
    sources = [rng.integers(4, 20, rng.integers(1, 9)).tolist() for _ in range(100)]
    return [([*ids, 2], ids) for ids in sources]


def train(output):
    """Starts a run, or resumes from a checkpoint. Writes a checkpoint every second step."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    dg.set_num_threads(1)
    dg.manual_seed(0)
    trainer = Trainer(
        Transformer(CONFIG), output=output, max_steps=40, checkpoint_every=2, batch_tokens=64, accumulate=2,
        warmup=10, lr=1e-2, log_interval=3, average=3, ema=0.9, schedule="cosine", tensorboard=True,
    )  # fmt: skip
    trainer.fit(pairs(), pairs()[:9], resume=bool(CheckpointFolder(output / "checkpoints", 3).files()))


def step_of(path):
    return int(path.stem.partition("-")[2])


def result(output):
    """Everything that must be equal: final weights, newest checkpoint, log without times."""
    newest = CheckpointFolder(output / "checkpoints", 3).newest()
    arrays = load_file(newest) | load_file(output / "model.safetensors")
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    for record in log:
        record.pop("seconds", None), record.pop("tokens_per_s", None)
    return {name: array.tobytes() for name, array in arrays.items()}, newest.name, log


def start(output):
    process = multiprocessing.get_context("fork").Process(target=train, args=(output,))
    process.start()
    return process


@pytest.mark.cpu  # a forked child has no CUDA
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_at_any_moment_a_run_ends_in_the_same_bits(tmp_path, rng):
    began = time.monotonic()
    process = start(tmp_path / "whole")
    process.join()
    pause = (time.monotonic() - began) / KILLS
    assert process.exitcode == 0
    expected = result(tmp_path / "whole")
    killed = runs = 0
    while killed < RUNS * KILLS:
        runs += 1
        output = tmp_path / str(runs)
        folder = CheckpointFolder(output / "checkpoints", 3)
        for left in reversed(range(KILLS + 1)):
            before = folder.files()
            process = start(output)
            process.join(rng.uniform(0.0, 2 * pause) if left else None)
            process.kill()
            process.join()
            if before:  # what was there, or something newer, is there and whole
                assert folder.newest() == folder.files()[-1]
                assert step_of(folder.newest()) >= step_of(before[-1])
            if process.exitcode == 0:
                pause *= 0.7 if left > 1 else 1.0  # the machine has become faster: kill earlier
                break
            killed += 1
        assert process.exitcode == 0
        assert result(output) == expected
        assert not list(output.rglob(".dragoman-*"))
    print(f"{killed} killed, {runs} runs ended in the same bits")
