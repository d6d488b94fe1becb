"""Trainer: what a training run is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import cast

from dragoman import arguments
from dragoman.callbacks import Callback, Record
from dragoman.data import Batches, Pair, encode_pairs
from dragoman.functional import DTYPES
from dragoman.model import Transformer
from dragoman.schedule import SCHEDULES, InverseSqrt
from dragoman.tokenizer import Tokenizer
from dragoman.training_run import TrainingRun
from dragoman.validation import Pairs, Validation, is_text

DEFAULT_EPOCHS = 30
SCORES = ("loss", "bleu", "chrf")
FINALS = ("average", "best", "last", "ema")


@dataclass
class Trainer:
    """Trains a Transformer on sentence pairs; `fit` runs it.

    Attributes:
        model: trained in place.
        tokenizer: needed for pairs of text; it travels with the model.
        output: folder for the model, its log and checkpoints; without one nothing is written, and the final
            model is the last or the moving average.
        batch_tokens: tokens of a batch, each pair counting its longer side.
        max_length: pairs with more tokens on a side, </s> included, are left out of training; of targets alone where
            the model's config has a max_source_length, to which sources are cut.
        min_length: pairs with fewer tokens on a side are left out, too.
        max_ratio: so are pairs with a side more than so many times as long as the other; None for no such limit.
        accumulate: batches per step; gradients are divided by the target tokens of all of them.
        lr: the peak of the learning rate; 0.64 / d_model by default.
        warmup: steps to the peak, after which the rate falls.
        schedule: how it falls: "inverse_sqrt", or to the end of the run "cosine" or "linear", which need max_steps
            or epochs (a run of epochs is as long as its first epoch foretells).
        label_smoothing: how much of the target distribution is spread over the vocabulary, in [0, 1).
        compute_dtype: of activations and matrix products, "float32" or "bfloat16"; None for the model's own.
        betas, eps, weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        epochs, max_steps, max_minutes: limits, of which the first one reached ends the run (minutes count
            from the call of `fit`); 30 epochs when none is given.
        max_bad_steps: a step without a finite gradient changes no weight and is logged; so many in a row end the run.
        checkpoint_every: steps between checkpoints, each with a validation; one at the end of each epoch by default.
        best_by: what makes a checkpoint the best, which stays on the disk beside the last ones: the "loss" of the
            validation data, or "bleu" or "chrf" of its translations, which are made and scored for these alone.
        beam: of these translations.
        patience: validations without a better one that end the run; None for no such limit.
        average: last checkpoints that are kept.
        ema: decay of a moving average of the weights; None for none.
        final: which weights the model has in the end: the "average" of the last checkpoints (Vaswani et al. 2017,
            section 6.1), none of them from the first half of the run, and with validation data only if they are not
            worse than the last ones; the "best" checkpoint's; the "last"; or those of the "ema".
        seed: of the order of the data and of dropout.
        log_interval: steps between records.
        callbacks: told what happens.
        tensorboard: write TensorBoard event files, too, to `output`/tensorboard.

    Raises:
        ValueError: a value out of range.
    """

    model: Transformer = field(repr=False)
    _: KW_ONLY
    tokenizer: Tokenizer | None = None
    output: str | Path | None = None
    batch_tokens: int = 4096
    max_length: int = 256
    min_length: int = 1
    max_ratio: float | None = None
    accumulate: int = 1
    lr: float | None = None
    warmup: int = 2000
    schedule: str = "inverse_sqrt"
    label_smoothing: float = 0.1
    compute_dtype: str | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    epochs: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    max_bad_steps: int = 10
    checkpoint_every: int | None = None
    best_by: str = "loss"
    beam: int = 1
    patience: int | None = None
    average: int = 8
    ema: float | None = None
    final: str = "average"
    seed: int = 0
    log_interval: int = 50
    callbacks: Sequence[Callback] = ()
    tensorboard: bool = False

    def __post_init__(self) -> None:
        self._check_counts()
        for name, choices in (("schedule", SCHEDULES), ("best_by", SCORES), ("final", FINALS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"Trainer: {name} must be one of {', '.join(choices)}, got {value!r}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"Trainer: max_minutes must be above 0, got {self.max_minutes}")
        if self.max_ratio is not None and not self.max_ratio >= 1:
            raise ValueError(f"Trainer: max_ratio must be at least 1, got {self.max_ratio}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"Trainer: label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"Trainer: ema must be in [0, 1), got {self.ema}")
        if self.final == "ema" and self.ema is None:
            raise ValueError("Trainer: final='ema' needs ema, got None")
        if self.output is None and (self.final == "best" or self.tensorboard):
            name = "final='best'" if self.final == "best" else "tensorboard"
            raise ValueError(f"Trainer: {name} needs an output folder, got None")
        if self.seed < 0:
            raise ValueError(f"Trainer: seed must be at least 0, got {self.seed}")
        if self.compute_dtype is None:
            self.compute_dtype = self.model.compute_dtype
        self.model.compute_dtype = arguments.choice("Trainer", "compute_dtype", self.compute_dtype, DTYPES)
        if self.lr is None:
            self.lr = 0.64 / self.model.config.d_model
        InverseSqrt(self.lr, self.warmup)  # checks both
        if self.epochs is None and self.max_steps is None and self.max_minutes is None:
            self.epochs = DEFAULT_EPOCHS

    def _check_counts(self) -> None:
        lengths = ("batch_tokens", "max_length", "min_length")
        needed = (*lengths, "accumulate", "max_bad_steps", "beam", "average", "log_interval")
        for name in (*needed, "epochs", "max_steps", "checkpoint_every", "patience"):
            value = getattr(self, name)
            if (value is None and name in needed) or (value is not None and value < 1):
                raise ValueError(f"Trainer: {name} must be at least 1, got {value}")

    def fit(self, train: Pairs, validation: Pairs | None = None, *, resume: bool = False) -> list[Record]:
        """Trains until a limit is reached.

        SIGINT (Ctrl-C) and SIGTERM end the run after the step at hand, a validation at once, with a checkpoint.

        Args:
            train: (source, target) pairs: texts, or lists of token ids (the target's without <s> and </s>).
            validation: the same, for a measurement at each checkpoint.
            resume: go on from the newest checkpoint in `output`, to the bits that a run without a break would
                reach.

        Returns:
            The records of this call, as written to `output`/log.jsonl.

        Raises:
            ValueError: data that gives no batches; nothing to resume from, or a checkpoint of other data or
                another model; an `output` that holds a run already, without `resume`.
            FloatingPointError: max_bad_steps in a row had no finite gradient.
            ModuleNotFoundError: `best_by` BLEU or chrF without sacrebleu.
            OSError: a file cannot be written; the last checkpoint stands.
            KeyboardInterrupt, SystemExit: after a SIGINT, a SIGTERM, once everything is saved.
        """
        if validation is None and (self.final == "best" or self.patience is not None):
            raise ValueError("Trainer: final='best' and patience need validation data, got None")
        held_out = None if validation is None else self._validation(validation)
        return TrainingRun(self, self._batches(train), held_out, resume).run()

    def _batches(self, pairs: Pairs) -> Batches:
        if self._are_text(pairs):
            pairs = encode_pairs(cast(Tokenizer, self.tokenizer), cast(Sequence[tuple[str, str]], pairs))
        return Batches(
            cast(Sequence[Pair], pairs),
            self.batch_tokens,
            max_length=self.max_length,
            max_source_length=self.model.config.max_source_length,
            min_length=self.min_length,
            max_ratio=self.max_ratio,
            seed=self.seed,
        )

    def _validation(self, pairs: Pairs) -> Validation:
        self._are_text(pairs)
        beam = None if self.best_by == "loss" else self.beam
        limits = {"batch_tokens": self.batch_tokens, "max_length": self.max_length}
        return Validation(self.model, pairs, self.tokenizer, **limits, beam=beam)

    def _are_text(self, pairs: Pairs) -> bool:
        if not pairs:
            raise ValueError("Trainer: the data must hold at least one pair, got none")
        if is_text(pairs) and self.tokenizer is None:
            raise ValueError("Trainer: pairs of text need a tokenizer, got none")
        return is_text(pairs)
