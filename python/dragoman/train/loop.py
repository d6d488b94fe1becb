"""The training loop."""

from __future__ import annotations

import math
import operator
import signal
import time
from collections.abc import Iterable
from functools import reduce

import numpy as np

from dragoman import random
from dragoman.creation import tensor
from dragoman.data.batches import Batches
from dragoman.data.prefetch import Prefetch
from dragoman.distributed.ranks import Ranks
from dragoman.grad_mode import no_grad
from dragoman.nn.module import Module
from dragoman.optim import AdamW
from dragoman.tensor import Tensor
from dragoman.train.averaging import ExponentialAverage
from dragoman.train.callbacks import Callback, Record
from dragoman.train.checkpoint import Stateful
from dragoman.train.final_weights import final_weights, put_weights
from dragoman.train.fine_tuning import layer_groups
from dragoman.train.learning_rate import LearningRate
from dragoman.train.limits import Limits
from dragoman.train.options import TrainingOptions
from dragoman.train.progress import Progress, counted, duration
from dragoman.train.signals import Stopped, StopSignals
from dragoman.train.step_batches import StepBatches, StepOfBatches
from dragoman.train.store import Position, RunStore, Sums
from dragoman.train.task import Batch, Task
from dragoman.train.tensorboard import TensorBoard
from dragoman.train.validation import Ranking, Validation


class TrainingRun:
    """One call of `Trainer.fit`."""

    def __init__(
        self,
        model: Module,
        task: Task,
        options: TrainingOptions,
        batches: Batches,
        validation: Validation | None,
        store: RunStore,
        ranks: Ranks,
    ) -> None:
        self.ranks = ranks
        self.model = model
        self.task = task
        self.options = options
        self.batches = batches
        self.validation = validation
        self.store = store
        self.ranking = Ranking(task, options.best_by)
        self.sound = True  # whether the latest validation was finite
        self.told_left_out = False
        self.stop = StopSignals([signal.SIGUSR1] if ranks.size > 1 else [])  # mpirun passes it on to its ranks
        if validation is not None:
            validation.stop = self.stop
        self.step_batches = StepBatches(task, model, batches, options, ranks)
        self.limits = Limits(options, ranks, self.stop, self.step_batches.epoch_steps)
        total_steps = self.limits.total_steps
        self.rate = LearningRate(options, self.limits)
        self.optimizer = AdamW(
            model,
            self.rate(1),
            options.betas,
            options.eps,
            options.weight_decay,
            options.max_grad_norm,
            [] if options.layer_decay is None else layer_groups(model, options.layer_decay),
            ranks,
        )
        self.ema = None if options.ema is None else ExponentialAverage(model, options.ema)
        parts: dict[str, Stateful] = {"model": self.model, "optimizer": self.optimizer}
        if self.ema is not None:
            parts["ema"] = self.ema
        plan = {"warmup": self.rate.warmup, "end of the schedule": total_steps}
        if options.schedule == "inverse_sqrt":
            del plan["end of the schedule"]
        examples = None if validation is None else len(validation.examples)
        store.use(parts, batches, plan, {"the number of validation examples": examples})
        if store.resumed:
            self.position, self.sums, missing = store.restore()
            if "ema" in missing and options.ema is not None:  # begins with the weights as they are now
                self.ema = ExponentialAverage(model, options.ema)
                store.parts["ema"] = self.ema
        else:
            random.manual_seed(options.seed)
            self.position, self.sums = Position(), Sums()
            store.begin(self.position, self.sums)
        self.first_step = self.position.step
        if self.position.warmup is not None and options.max_minutes is not None:
            self.rate.set_warmup(min(self.rate.warmup, self.position.warmup))
        self.progress = Progress(self.store.log, self.first_step, total_steps)
        self.callbacks: list[Callback] = list(options.callbacks)
        if options.tensorboard and self.store.output is not None and ranks.first:
            self.callbacks.append(TensorBoard(self.store.output / "tensorboard"))

    def run(self) -> None:
        """Trains until a limit or a signal; the records are those of `progress`."""
        self._introduce()
        try:
            for callback in self.callbacks:
                callback.on_begin(self.first_step)
            with self.stop:
                self.model.train()
                if self.position.due:
                    self._checkpoint()
                while not self.limits.reached(self.position):
                    self._epoch()
                self._finish()
        finally:
            self.progress.close()
            for callback in self.callbacks:
                callback.on_end()

    def _introduce(self) -> None:
        """Says what is trained on, and what the user may not expect."""
        padding = self.batches.padding(lambda rows: self.step_batches.batch(rows).columns)
        self.probe = self.batches.epoch(0)[0]  # rows for the last check
        say = self.progress.say
        say(
            f"{counted(self.batches.count, self.task.unit)} in "
            f"{counted(len(self.batches.epoch(0)), 'batch', 'batches')}, {self.batches.dropped:,} left out for their "
            f"lengths; rectangles would have added {padding:.0%} padding; "
            f"{counted(self.model.num_parameters(), 'parameter')}"
        )
        for remark in self.task.remarks():
            say(remark)
        if self.rate.warmup != self.options.warmup and not self.first_step:
            say(f"warm-up in {counted(self.rate.warmup, 'step')}, half of the run, instead of {self.options.warmup:,}")
        for path in self.store.damaged:
            say(f"{path}: damaged; going on from step {self.first_step}")
        if self.store.differences:
            say(f"resumed with other options than before: {'; '.join(self.store.differences)}")

    def _epoch(self) -> None:
        """Trains from the position to the end of its epoch, or until the run is finished."""
        position = self.position
        with Prefetch(self.step_batches.steps(position.epoch, position.batch)) as ready:
            self._steps(ready, len(self.batches.epoch(position.epoch)))

    def _steps(self, steps: Iterable[StepOfBatches], batches: int) -> None:
        """Some steps of an epoch that has so many batches."""
        position = self.position
        for step in steps:
            self._step(step.own, step.count)
            self._fit_warmup()
            position.batch = step.end
            if ended := position.batch == batches:
                position.epoch, position.batch = position.epoch + 1, 0
            if position.step % self.options.log_interval == 0 or ended:
                self._record()
            every = self.options.checkpoint_every
            if ended if every is None else position.step % every == 0:
                self._checkpoint()
            if self.limits.reached(position):
                break

    def _fit_warmup(self) -> None:
        if self.rate.fit(self.first_step, self.position.step):
            self.position.warmup = self.rate.warmup
            self.progress.say(
                f"warm-up in {counted(self.rate.warmup, 'step')}, half of what the time limit allows, instead of "
                f"{self.options.warmup:,}"
            )

    def _step(self, group: list[Batch], batches: int) -> None:
        """One optimizer step, on this rank's batches of `batches` in all. The host reads no device memory before it is
        done."""
        began = time.perf_counter()
        size = self.ranks.size
        own = [sum(batch.num_targets for batch in group), sum(batch.num_tokens for batch in group)]
        targets, tokens = map(sum, zip(*self.ranks.gather(own), strict=True))
        losses: list[Tensor] = []
        for done in range(0, batches, size):
            place = done + self.ranks.rank
            loss = None
            if place < batches:
                random.begin_batch(place)
                loss = self.task.loss(self.model, group[len(losses)], targets, self.options)
                losses.append(loss.detach())
            self.optimizer.backward(loss, batches, done)
        self.position.step += 1
        norm, mean = self._update(self._loss_of_step(losses, batches))
        seconds = time.perf_counter() - began
        self.position.seconds += seconds
        self.sums.seconds += seconds
        self.sums.tokens += tokens
        if norm is not None:
            self.sums.loss += mean * targets
            self.sums.targets += targets
            self.sums.gradient_norm = norm
        self.progress.advance(mean, tokens, seconds, self._seconds_left())
        for callback in self.callbacks:
            callback.on_step(self.position.step, mean)

    def _loss_of_step(self, losses: list[Tensor], batches: int) -> Tensor:
        """The sum of a step's losses, in the order of its batches."""
        if self.ranks.size > 1:
            by_rank = self.ranks.gather([loss.item() for loss in losses])
            in_order = [by_rank[place % self.ranks.size][place // self.ranks.size] for place in range(batches)]
            device = next(iter(self.model.parameters())).device
            losses = [tensor(np.float32(value), device) for value in in_order]
        with no_grad():
            return reduce(operator.add, losses)

    def _update(self, loss: Tensor) -> tuple[float | None, float]:
        """Changes the weights; returns the gradient's norm, None for a bad step, and the value of the loss.

        A step is bad if the norm or the loss is not finite. Then no weight changes.
        """
        position, optimizer = self.position, self.optimizer
        optimizer.lr = self.rate(position.step)
        try:
            norm = optimizer.step(loss)
        except FloatingPointError as error:
            mean = loss.item()
            self._count_bad_step(str(error) if math.isfinite(mean) else f"the loss became {mean}; {error}")
            return None, mean
        mean = loss.item()
        position.skipped_in_row = 0
        if self.ema is not None:
            self.ema.update(optimizer.step_count)
        return norm, mean

    def _count_bad_step(self, reason: str) -> None:
        """Logs a bad step; too many in a row end the run."""
        position = self.position
        position.skipped += 1
        position.skipped_in_row += 1
        record = {"step": position.step, "skipped": position.skipped, "reason": reason}
        self._event(record, f"step {position.step} skipped: {reason}")
        if position.skipped_in_row >= self.options.max_bad_steps:
            raise FloatingPointError(
                f"{counted(position.skipped_in_row, 'step')} in a row, up to step {position.step}, had no finite loss "
                f"and gradient; a lower lr may help ({reason})"
            )

    def _epochs(self) -> float:
        """Epochs so far, for the log."""
        epoch, batch = self.position.epoch, self.position.batch
        return round(epoch + (batch / len(self.batches.epoch(epoch)) if batch else 0.0), 4)

    def _record(self) -> None:
        """Logs the steps since the last record."""
        sums, self.sums = self.sums, Sums()
        if not sums.targets:
            return  # every step was skipped
        record, text = self._describe_steps(sums)
        left = self._seconds_left()
        self.progress.record(record, text + ("" if left is None else f", {duration(left)} left"))
        for callback in self.callbacks:
            callback.on_record(record)

    def _record_rest(self) -> None:
        """Logs the steps of an interval that the end of the run cuts short; a resumed run replaces that line."""
        if self.sums.targets:
            record, text = self._describe_steps(self.sums)
            self._event({**record, "partial": True}, f"step {self.position.step}: {text}")

    def _describe_steps(self, sums: Sums) -> tuple[Record, str]:
        """The record of some steps, and its words."""
        epoch = self._epochs()
        loss, speed, lr = sums.loss / sums.targets, sums.tokens / sums.seconds, self.optimizer.lr
        record = {
            "step": self.position.step,
            "epoch": epoch,
            "loss": loss,
            "lr": lr,
            "gradient_norm": sums.gradient_norm,
            "tokens_per_s": round(speed, 1),
            "seconds": round(self.position.seconds, 3),
        }
        return record, f"epoch {epoch:.2f}, loss {loss:.3f}, lr {lr:.3g}, {speed:,.0f} tokens/s"

    def _event(self, record: Record, text: str) -> None:
        self.progress.event(_json(record), text)
        for callback in self.callbacks:
            callback.on_record(record)

    def _seconds_left(self) -> float | None:
        return self.limits.seconds_left(self.first_step, self.position.step)

    def _checkpoint(self) -> None:
        """Validates and saves. After a signal, the resumed run does both."""
        try:
            if self.validation is not None:
                self._validate(self.validation)
        except Stopped:
            self.position.due = True
            return
        self.position.due = False
        self._save()

    def _validate(self, validation: Validation) -> None:
        """Measures the model and records whether it is the best so far."""
        position, epoch = self.position, self._epochs()
        with self.limits.at_once():
            scores = validation()
        self.sound = self.ranking.is_finite(scores)
        if better := self.ranking.is_better(scores, position.best_score):
            position.best_step, position.best_score, position.since_best = position.step, self.ranking.score(scores), 0
        else:
            position.since_best += 1
        record = {"step": position.step, "epoch": epoch, **scores}
        text = f"epoch {epoch:.4g}: {self.ranking.describe(scores)}{', the best so far' if better else ''}"
        self.progress.event(_json(record), text)
        if validation.left_out and not self.told_left_out:
            self.told_left_out = True
            self.progress.say(
                f"validation left out {validation.left_out:,} of {len(validation.examples):,} {self.task.unit}s, which "
                f"are longer than max_length={self.options.max_length}"
            )
        for callback in self.callbacks:
            callback.on_validation(record)

    def _save(self, *, regular: bool = True) -> None:
        """Writes a checkpoint, and the model, which can be used during the run, unless its validation failed."""
        self.progress.sync()
        self.store.save(self.position, self.sums, regular=regular)
        if self.sound:
            self.store.save_model()

    def _finish(self) -> None:
        """Saves the state where the run stopped. At a limit, puts the final weights into the model."""
        self.model.eval()
        if self.store.saved != self.position.step:
            self._save(regular=False)
        self._record_rest()
        limits = self.limits
        limits.agree()
        if not limits.stopped:
            self._put_final_weights()
            limits.agree()
        if not limits.stopped:
            self._check_result()
        if self.sound:
            self.store.save_model()
        if limits.stopped and self.store.output is not None:
            self.progress.say(f"stopped after step {self.position.step}; it can be resumed from {self.store.output}")

    def _put_final_weights(self) -> None:
        """Puts in the weights that the option `final` names; after a signal, the last ones."""
        last = self.model.state_dict()
        try:
            with self.limits.at_once():
                record = self._choose_weights()
        except Stopped:
            self.model.load_state_dict(last)
            return
        if record is None:
            return
        scores = f", {self.ranking.describe(record)}" if self.validation is not None else ""
        self._event(record, f"final weights: {record['final']}{scores}")

    def _choose_weights(self) -> Record | None:
        """Puts in the final weights; returns their record, None where they are those of the last step."""
        final, validation = self.options.final, self.validation
        weights = final_weights(final, self.model, self.ema, self.store, self.position.best_step)
        if weights is None:
            return None
        record = {"step": self.position.step, **put_weights(final, self.model, weights, validation, self.ranking)}
        if validation is not None:
            self.sound = self.ranking.is_finite(record)
        return record

    def _check_result(self) -> None:
        """FloatingPointError if the final model's loss, in validation or on a batch of training, is not finite."""
        batch = self.step_batches.batch(self.batches.dataset.take(self.probe))
        with self.model.inference():
            loss = self.task.loss(self.model, batch, batch.num_targets, self.options).item()
        if not (math.isfinite(loss) and self.sound):
            where = "on a batch of training" if self.sound else "in validation"
            raise FloatingPointError(
                f"training has diverged: the final model has no finite loss {where}; a lower lr may help"
            )


def _json(record: Record) -> Record:
    """A record for the log: JSON has no numbers that are not finite."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
