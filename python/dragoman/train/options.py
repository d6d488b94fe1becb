"""TrainingOptions: the settings of a training run, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman import arguments
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.optim import check_options
from dragoman.train.callbacks import Callback
from dragoman.train.schedule import SCHEDULES

DEFAULT_EPOCHS = 30
FINALS = ("average", "best", "last", "ema")

_COUNTS = (
    "batch_tokens", "max_length", "min_length", "accumulate", "warmup", "max_bad_steps", "beam", "average",
    "log_interval",
)  # fmt: skip
_OPTIONAL_COUNTS = ("epochs", "max_steps", "checkpoint_every", "patience")


@dataclass(kw_only=True)
class TrainingOptions:
    """The settings of a training run: the keyword arguments of `Trainer`.

    NumPy numbers become Python's, so that every value can be written as JSON.

    Attributes:
        output: folder for the model, its log and checkpoints; without one nothing is written, and the final
            model is the last or the moving average.
        batch_tokens: tokens of a batch; what an example costs is up to the task, a pair the tokens of its longer side.
        max_length: longer examples are left out of training: those with more tokens, </s> included, on any side. Where
            the model's config has a max_source_length, sources are cut to it, and this one is for targets alone.
        min_length: examples with fewer tokens on a side are left out, too.
        max_ratio: so are pairs with a side more than so many times as long as the other; None for no such limit.
        accumulate: batches per step; gradients are divided by the targets of all of them.
        lr: the peak of the learning rate; 0.64 / d_model of the model's config by default.
        warmup: steps to the peak, after which the rate falls.
        schedule: how it falls: "inverse_sqrt", or to the end of the run "cosine" or "linear", which need max_steps
            or epochs (the first epoch tells how many steps a run of epochs has).
        label_smoothing: the part of the target distribution that is spread over all classes (for text, the
            vocabulary), in [0, 1).
        compute_dtype: of activations and matrix products, "float32" or "bfloat16"; None for the model's own.
        betas, eps, weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        epochs, max_steps, max_minutes: limits, of which the first one reached ends the run (minutes count
            from the call of `fit`); 30 epochs when none is given.
        max_bad_steps: a step without a finite gradient changes no weight and is logged; so many in a row end the run.
        checkpoint_every: steps between checkpoints, each with a validation; one at the end of each epoch by default.
        best_by: what makes a checkpoint the best, which stays on the disk beside the last ones: the "loss" of the
            validation data, or a score of the task. For translation "bleu" or "chrf"; the validation data are
            translated for these alone.
        beam: beam size of these translations.
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
        TypeError, ValueError: a value of another type, or out of range.
    """

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
        op = "Trainer"
        if self.output is not None:
            arguments.check_path(op, "output", self.output)
        self._convert_numbers(op)
        for name, choices in (("schedule", SCHEDULES), ("final", FINALS)):
            arguments.choice(op, name, getattr(self, name), choices)
        if self.compute_dtype is not None:
            arguments.choice(op, "compute_dtype", self.compute_dtype, ACTIVATION_DTYPES)
        arguments.check_types(op, str, best_by=self.best_by)
        self.tensorboard = arguments.flag(op, "tensorboard", self.tensorboard)
        if not isinstance(self.callbacks, list | tuple):
            raise TypeError(f"Trainer: callbacks must be a list, got {type(self.callbacks).__name__}")
        for i, callback in enumerate(self.callbacks):
            arguments.check_types(op, Callback, **{f"callbacks[{i}]": callback})
        if self.final == "ema" and self.ema is None:
            raise ValueError("Trainer: final='ema' needs ema, got None")
        if self.output is None and (self.final == "best" or self.tensorboard):
            name = "final='best'" if self.final == "best" else "tensorboard"
            raise ValueError(f"Trainer: {name} needs an output folder, got None")
        if self.epochs is None and self.max_steps is None and self.max_minutes is None:
            self.epochs = DEFAULT_EPOCHS

    def _convert_numbers(self, op: str) -> None:
        """Checks every number and puts in its Python form."""
        given = [name for name in _OPTIONAL_COUNTS if getattr(self, name) is not None]
        for name in (*_COUNTS, *given):
            setattr(self, name, arguments.integer(op, name, getattr(self, name), 1))
        self.seed = arguments.integer(op, "seed", self.seed)
        for name in ("lr", "max_minutes"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, arguments.positive(op, name, value))
        if self.max_ratio is not None:
            self.max_ratio = arguments.number(op, "max_ratio", self.max_ratio, 1.0)
        self.label_smoothing = arguments.number(op, "label_smoothing", self.label_smoothing, 0.0, 1.0)
        if self.ema is not None:
            self.ema = arguments.number(op, "ema", self.ema, 0.0, 1.0)
        check_options(op, self.betas, self.eps, self.weight_decay, self.max_grad_norm)
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        self.eps, self.weight_decay = float(self.eps), float(self.weight_decay)
        self.max_grad_norm = None if self.max_grad_norm is None else float(self.max_grad_norm)
