"""A run for test_mpirun.py: rank_program.py OPTIONS, a JSON object.

`fault` is [what, rank, step]: that rank raises, exits, or sends itself a signal, after that step; or it has bad data
for "validation", or raises "between" two runs. `kill` is [rank, seconds].
`report` is a file for the memory that the last rank holds on cuda after a step, and for its plan.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import dragoman as dg
import numpy as np
from dragoman.distributed import exchange, this_process
from dragoman.train import Callback
from toy_runs import CONFIG, model_of, pairs_of


class Fault(Callback):
    def __init__(self, what, step):
        self.what, self.step = what, step

    def on_step(self, step, loss):
        if step == self.step:
            if self.what == "raise":
                raise RuntimeError("a fault of this test")
            if self.what == "exit":
                sys.exit(3)
            if self.what in ("validation", "between"):
                return
            os.kill(os.getpid(), self.what)


class Report(Callback):
    def __init__(self, path, plan):
        self.path, self.plan = path, plan

    def on_step(self, step, loss):
        Path(self.path).write_text(json.dumps([dg.memory_stats("cuda")["allocated"], self.plan]))


def main(
    batches,
    steps,
    resume=False,
    fault=None,
    kill=None,
    report=None,
    d_ff=64,
    lora=False,
    seed=0,
    bucket=None,
    **options,
):
    ranks = this_process()
    exchange.BUCKET = bucket or exchange.BUCKET
    if kill and kill[0] == ranks.rank:
        timer = threading.Timer(kill[1], os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    dg.set_num_threads(1)
    model = model_of(config=replace(CONFIG, d_ff=d_ff))
    if lora:
        dg.lora.add(model, rank=2)
    rng = np.random.default_rng(seed)
    pairs, held_out = pairs_of(rng, 120), pairs_of(rng, 30)
    options = {"batch_tokens": 60, "checkpoint_every": 4, "warmup": 3, "lr": 1e-2, "log_interval": 1, **options}
    what = fault[0] if fault and fault[1] == ranks.rank else None
    callbacks = [Fault(what, fault[2])] if what else []
    if what == "validation":
        held_out = [([5] * 999, [5] * 999)]
    if report and ranks.rank == ranks.size - 1:
        callbacks.append(Report(report, model.memory_plan(60, ranks=ranks.size)))
    accumulate = batches // ranks.size
    trainer = dg.Trainer(model, accumulate=accumulate, max_steps=steps, callbacks=callbacks, **options)
    trainer.fit(pairs, held_out, resume=resume)
    if what == "between":
        raise ValueError("a fault of this test")
    if fault and fault[0] == "between":
        trainer.fit(pairs, held_out, resume=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
