"""Trainer: what a training run is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import cast

from dragoman.data import Batches, Pair, encode_pairs
from dragoman.model import Transformer
from dragoman.progress import Record
from dragoman.schedule import InverseSqrt
from dragoman.tokenizer import Tokenizer
from dragoman.training_run import TrainingRun

DEFAULT_EPOCHS = 30

Pairs = Sequence[tuple[str, str]] | Sequence[Pair]


@dataclass
class Trainer:
    """Trains a Transformer on sentence pairs; `fit` runs it.

    Attributes:
        model: trained in place.
        tokenizer: needed for pairs of text; it travels with the model.
        output: folder for the model, its log and checkpoints; without one nothing is written, and nothing
            averaged.
        batch_tokens: tokens of a batch, each pair counting its longer side.
        max_length: pairs with more tokens on a side are left out of training.
        accumulate: batches per step; gradients are divided by the target tokens of all of them.
        lr: the peak of the learning rate; 0.64 / d_model by default.
        warmup: steps to the peak, after which the rate falls with the inverse square root of the step.
        label_smoothing: how much of the target distribution is spread over the vocabulary, in [0, 1).
        betas, eps, weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        epochs, max_steps, max_minutes: limits, of which the first one reached ends the run (minutes count
            from the call of `fit`); 30 epochs when none is given.
        checkpoint_every: steps between checkpoints; one at the end of each epoch by default.
        average: the final model is the mean of this many last checkpoints (Vaswani et al. 2017, section 6.1),
            none of them from the first half of the run; with validation data, only if its loss is not above
            the last one's.
        seed: of the order of the data and of dropout.
        log_interval: steps between records.

    Raises:
        ValueError: a value out of range.
    """

    model: Transformer = field(repr=False)
    _: KW_ONLY
    tokenizer: Tokenizer | None = None
    output: str | Path | None = None
    batch_tokens: int = 4096
    max_length: int = 256
    accumulate: int = 1
    lr: float | None = None
    warmup: int = 2000
    label_smoothing: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    epochs: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    checkpoint_every: int | None = None
    average: int = 8
    seed: int = 0
    log_interval: int = 50

    def __post_init__(self) -> None:
        counts = ("batch_tokens", "max_length", "accumulate", "average", "log_interval")
        for name in (*counts, "epochs", "max_steps", "checkpoint_every"):
            value = getattr(self, name)
            if (value is None and name in counts) or (value is not None and value < 1):
                raise ValueError(f"Trainer: {name} must be at least 1, got {value}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"Trainer: max_minutes must be above 0, got {self.max_minutes}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"Trainer: label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.seed < 0:
            raise ValueError(f"Trainer: seed must be at least 0, got {self.seed}")
        if self.lr is None:
            self.lr = 0.64 / self.model.config.d_model
        self.schedule = InverseSqrt(self.lr, self.warmup)
        if self.epochs is None and self.max_steps is None and self.max_minutes is None:
            self.epochs = DEFAULT_EPOCHS

    def fit(self, train: Pairs, validation: Pairs | None = None, *, resume: bool = False) -> list[Record]:
        """Trains until a limit is reached.

        SIGINT (Ctrl-C) and SIGTERM end the run after the step at hand, with a checkpoint.

        Args:
            train: (source, target) pairs: texts, or lists of token ids (the target's without <s> and </s>).
            validation: the same, for the loss at the end of each epoch.
            resume: go on from the newest checkpoint in `output`, to the bits that a run without a break would
                reach.

        Returns:
            The records of this call, as written to `output`/log.jsonl.

        Raises:
            ValueError: data that gives no batches; nothing to resume from, or a checkpoint of other data or
                another model; an `output` that holds a run already, without `resume`.
            FloatingPointError: the loss or the gradient is not finite.
            KeyboardInterrupt, SystemExit: after a SIGINT, a SIGTERM, once everything is saved.
        """
        held_out = None if validation is None else self._batches(validation)
        return TrainingRun(self, self._batches(train), held_out, resume).run()

    def _batches(self, pairs: Pairs) -> Batches:
        if not pairs:
            raise ValueError("Trainer: the data must hold at least one pair, got none")
        if isinstance(pairs[0][0], str):
            if self.tokenizer is None:
                raise ValueError("Trainer: pairs of text need a tokenizer, got none")
            pairs = encode_pairs(self.tokenizer, cast(Sequence[tuple[str, str]], pairs))
        return Batches(cast(Sequence[Pair], pairs), self.batch_tokens, max_length=self.max_length, seed=self.seed)
