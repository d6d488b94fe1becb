"""The training loop."""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dragoman import random
from dragoman.checkpoint import CheckpointFolder, average_checkpoints, load_checkpoint
from dragoman.data import Batches
from dragoman.optim import AdamW
from dragoman.progress import Progress, Record
from dragoman.signals import StopSignals

if TYPE_CHECKING:
    from dragoman.train import Trainer

_SAME = ("batch_tokens", "max_length", "accumulate", "seed")  # what decides the order of the data


@dataclass
class _Position:
    """How far a run has come: optimizer steps, the next epoch and batch of it, seconds spent in steps."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0


@dataclass
class _Sums:
    """Since the last record."""

    loss: float = 0.0  # of all target tokens
    targets: int = 0
    tokens: int = 0
    seconds: float = 0.0


class TrainingRun:
    """One call of `Trainer.fit`."""

    def __init__(self, trainer: Trainer, batches: Batches, validation: Batches | None, resume: bool) -> None:
        self.options = trainer
        self.model = trainer.model
        self.batches = batches
        self.validation = validation
        self.started = time.monotonic()
        self.stop = StopSignals()
        self.optimizer = AdamW(
            trainer.model,
            trainer.schedule(1),
            trainer.betas,
            trainer.eps,
            trainer.weight_decay,
            trainer.max_grad_norm,
        )
        self.data = {
            "pairs": len(batches.kept),
            "lengths": zlib.crc32(np.array(batches.costs, np.int32).tobytes()),
            **{name: getattr(trainer, name) for name in _SAME},
        }
        self.output = None if trainer.output is None else Path(trainer.output)
        self.checkpoints = None
        if self.output is not None:
            self.checkpoints = CheckpointFolder(self.output / "checkpoints", trainer.average)
        self.saved = -1  # step of the newest checkpoint
        self.sums = _Sums()
        self.position = self._restore() if resume else self._begin()
        log = self.output and self.output / "log.jsonl"
        self.progress = Progress(log, self.position.step, self._total_steps())

    def run(self) -> list[Record]:
        """Trains until a limit or a signal; returns the records."""
        self.progress.say(
            f"{len(self.batches.kept):,} pairs in {len(self.batches.epoch(0)):,} batches, "
            f"{self.batches.dropped:,} longer than {self.options.max_length} tokens left out; "
            f"{self.model.num_parameters():,} parameters"
        )
        try:
            with self.stop:
                self.model.train()
                while not self._finished():
                    self._epoch()
                self._finish()
        finally:
            self.progress.close()
        self.stop.raise_received()
        return self.progress.records

    def _total_steps(self) -> int | None:
        """Steps until the limits of steps and epochs, as far as the first epoch tells."""
        options = self.options
        an_epoch = math.ceil(len(self.batches.epoch(0)) / options.accumulate)
        limits = [options.max_steps, options.epochs and options.epochs * an_epoch]
        return min((limit for limit in limits if limit is not None), default=None)

    def _finished(self) -> bool:
        options, position = self.options, self.position
        return (
            self.stop.received is not None
            or (options.epochs is not None and position.epoch >= options.epochs)
            or (options.max_steps is not None and position.step >= options.max_steps)
            or (options.max_minutes is not None and time.monotonic() - self.started >= 60 * options.max_minutes)
        )

    def _epoch(self) -> None:
        """Trains from the position to the end of its epoch, or until the run is finished."""
        position, accumulate = self.position, self.options.accumulate
        order = self.batches.epoch(position.epoch)
        for first in range(position.batch, len(order), accumulate):
            norm = self._step(order[first : first + accumulate])
            position.batch = min(first + accumulate, len(order))
            epoch = position.epoch + position.batch / len(order)
            if ended := position.batch == len(order):
                position.epoch, position.batch = position.epoch + 1, 0
            if position.step % self.options.log_interval == 0 or ended:
                self._record(epoch, norm)
            every = self.options.checkpoint_every
            if ended if every is None else position.step % every == 0:
                self._save()
            if ended and self.validation is not None:
                self._record_validation(epoch, self._validate())
            if self._finished():
                break

    def _step(self, group: list[list[int]]) -> float:
        """One optimizer step on a group of batches; returns the gradient's norm."""
        began = time.perf_counter()
        sides = [self.batches.sides(batch) for batch in group]
        targets = sum(len(ids) + 1 for _, tgt in sides for ids in tgt)
        total = 0.0
        for src, tgt in sides:
            loss = self.model.loss(src, tgt, self.options.label_smoothing, targets)
            total += loss.item()
            loss.backward()
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss became {total} at step {self.position.step + 1}; a lower lr may help")
        self.position.step += 1
        self.optimizer.lr = self.options.schedule(self.position.step)
        norm = self.optimizer.step()
        seconds = time.perf_counter() - began
        self.position.seconds += seconds
        self.sums.loss += total * targets
        self.sums.targets += targets
        self.sums.tokens += targets + sum(len(ids) for src, _ in sides for ids in src)
        self.sums.seconds += seconds
        self.progress.advance()
        return norm

    def _record(self, epoch: float, norm: float) -> None:
        sums, self.sums = self.sums, _Sums()
        loss, speed = sums.loss / sums.targets, sums.tokens / sums.seconds
        record = {
            "step": self.position.step,
            "epoch": round(epoch, 4),
            "loss": loss,
            "lr": self.optimizer.lr,
            "gradient_norm": norm,
            "tokens_per_s": round(speed, 1),
            "seconds": round(self.position.seconds, 3),
        }
        self.progress.record(record, f"epoch {epoch:.2f}, loss {loss:.3f}, {speed:,.0f} tokens/s")

    def _validate(self) -> float:
        """Mean cross entropy per target token of the validation data, without dropout and label smoothing."""
        assert self.validation is not None
        sides = [self.validation.sides(batch) for batch in self.validation.in_order()]
        targets = sum(len(ids) + 1 for _, tgt in sides for ids in tgt)
        with self.model.inference():
            return sum(self.model.loss(src, tgt, 0.0, targets).item() for src, tgt in sides)

    def _record_validation(self, epoch: float, loss: float) -> None:
        perplexity = math.exp(min(loss, 700.0))
        self.progress.event(
            {"step": self.position.step, "epoch": epoch, "valid_loss": loss, "valid_perplexity": perplexity},
            f"epoch {epoch:.0f}: validation loss {loss:.4f}, perplexity {perplexity:.2f}",
        )

    def _begin(self) -> _Position:
        if self.checkpoints is not None and self.checkpoints.files():
            raise ValueError(f"{self.output}: holds a training run; resume it or choose another folder")
        random.manual_seed(self.options.seed)
        if self.output is not None:
            self.model.save(self.output)
            if self.options.tokenizer is not None:
                self.options.tokenizer.save(self.output / "tokenizer.json")
        return _Position()

    def _save(self, *, regular: bool = True) -> None:
        """Writes a checkpoint, and the model as it is for those who want to use it already."""
        if self.output is None or self.checkpoints is None:
            return
        state = {"position": asdict(self.position), "data": self.data, "random": random.get_state()}
        self.checkpoints.save(self.position.step, self.model, self.optimizer, state, regular=regular)
        self.saved = self.position.step
        self.model.save(self.output)

    def _restore(self) -> _Position:
        if self.checkpoints is None:
            raise ValueError("Trainer: resume needs an output folder, got none")
        path = self.checkpoints.newest()
        state = load_checkpoint(path, self.model, self.optimizer)
        for name, value in self.data.items():
            if (saved := state.get("data", {}).get(name)) != value:
                raise ValueError(f"{path}: {name} must be the same to resume, was {saved}, got {value}")
        try:
            random.set_state(state["random"])
            position = _Position(**state["position"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: metadata field state is incomplete ({error})") from None
        self.saved = position.step
        return position

    def _finish(self) -> None:
        """Saves where the run stopped; after a run to its limit, puts the averaged weights into the model."""
        self.model.eval()
        if self.output is None or self.checkpoints is None:
            return
        if self.saved != self.position.step:
            self._save(regular=False)
        paths = self.checkpoints.to_average()
        if self.stop.received is None and len(paths) > 1:
            self._average(paths)
        self.model.save(self.output)
        if self.stop.received is not None:
            self.progress.say(f"stopped after step {self.position.step}; it can be resumed from {self.output}")

    def _average(self, paths: list[Path]) -> None:
        last, last_loss = self.model.state_dict(), None if self.validation is None else self._validate()
        self.model.load_state_dict(average_checkpoints(paths))
        if last_loss is None:
            return
        loss = self._validate()
        self.progress.event(
            {"step": self.position.step, "averaged": len(paths), "valid_loss": loss},
            f"mean of {len(paths)} checkpoints: validation loss {loss:.4f}, last one {last_loss:.4f}",
        )
        if loss > last_loss:
            self.model.load_state_dict(last)
