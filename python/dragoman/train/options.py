"""TrainingOptions: the settings of a training run, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dragoman import arguments
from dragoman.arrays import check_device
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.optim import check_options
from dragoman.train.callbacks import Callback
from dragoman.train.fine_tuning import check_decay
from dragoman.train.schedule import SCHEDULES
from dragoman.train.scores import TOKENIZERS

DEFAULT_EPOCHS = 30
FINALS = ("average", "best", "last", "ema")

_COUNTS = (
    "batch_tokens", "max_length", "min_length", "accumulate", "warmup", "max_bad_steps", "beam", "log_interval",
)  # fmt: skip
_OPTIONAL_COUNTS = ("epochs", "max_steps", "checkpoint_every", "patience", "average")


@dataclass(kw_only=True)
class TrainingOptions:
    """The settings of a training run: the keyword arguments of `Trainer`.

    NumPy numbers become Python's, so that every value can be written as JSON.

    Attributes:
        output: folder for the model, its log and its checkpoints, made where missing. None writes nothing; then the
            model ends with the last weights or their moving average.
        batch_tokens: size of a batch in tokens. The task says what an example costs: a pair costs the tokens of its
            longer side.
        max_length: examples with more tokens, </s> included, are left out of training; of a pair, on either side. If
            the model's config has a max_source_length, sources are cut to it and only targets are limited here.
        min_length: examples with fewer tokens on a side are left out of training.
        max_ratio: pairs are left out of training if one side is more than this many times as long as the other. None
            for no limit.
        accumulate: number of batches in a step. Gradients are divided by the targets of all of them.
        lr: peak learning rate. None for 0.64 / d_model, with d_model from the model's config.
        warmup: number of steps in which the learning rate rises to its peak. At most half of the run: of its steps,
            where their number is known, and of the steps that max_minutes allow, by the speed of the first ones.
        schedule: how the learning rate falls after the peak. "inverse_sqrt" has no end. "cosine" and "linear" fall
            until the end of the run and need max_steps or epochs; the first epoch decides how many steps an epoch has.
        label_smoothing: share of the target distribution that is spread over all classes, in [0, 1). For text the
            classes are the vocabulary.
        bpe_dropout: probability, in [0, 1), with which a merge of byte pairs is left out of training text, see
            `dragoman.data.BpeDropout`. For tasks of sentence pairs and labels, with a tokenizer of the kind
            "bpe".
        compute_dtype: dtype of activations and matrix products, "float32" or "bfloat16". None for the model's own.
        checkpoint_layers: compute each layer again in backward instead of keeping its activations, see
            `dragoman.models.Model`; the weights have the same bits. None for as the model stands.
        device: where to train, "cpu" or "cuda"; the model is moved there. None for where it is.
        betas, eps, weight_decay: see `dragoman.optim.AdamW`.
        freeze: shell patterns over the names of parameters, as `embedding.*`: what matches one is not trained.
        layer_decay: factor in (0, 1] on the learning rate from each layer to the one below, see
            `dragoman.train.layer_groups`. None for one learning rate.
        max_grad_norm: gradients with a larger norm are scaled down to it. None for no clipping.
        epochs, max_steps, max_minutes: limits. The run ends at the first one that it reaches; minutes count from the
            call of `fit`. Without any limit, 30 epochs.
        max_bad_steps: a step whose loss or gradient is not finite changes no weights and is logged. This many in a row
            end the run with an error.
        checkpoint_every: number of steps between checkpoints. Each comes with a validation. None for one at the end of
            each epoch.
        best_by: the validation score that decides which checkpoint is the best: "loss", or a score of the task. The
            best checkpoint is kept. For translation: "bleu" or "chrf", which need the validation data translated.
        beam: beam size of these translations.
        bleu_tokenize: sacreBLEU's tokenizer for BLEU: "13a" for most languages, "zh" for Chinese, "ja-mecab" for
            Japanese, "ko-mecab" for Korean, or "intl", "char", "none", "flores101", "flores200". The log has the
            signature.
        patience: the run ends after this many validations without a new best one. None for no limit.
        average: number of last checkpoints that are kept. None for 8, or fewer, but at least 2, where 8 would take more
            than 4 GiB. A checkpoint takes 12 bytes a parameter, with `ema` 16.
        ema: decay of a moving average of the weights, in [0, 1). None for no average.
        final: the weights of the model after the run. "average": the mean of the last checkpoints (Vaswani et al. 2017,
            section 6.1), without those from the first half of the run, and with validation data only if it is not worse
            than the last weights. "best": those of the best checkpoint. "last". "ema": the moving average.
        seed: seed of the data's order and of dropout.
        log_interval: number of steps between records in the log.
        callbacks: objects whose methods are called during the run.
        tensorboard: also write TensorBoard event files, to `output`/tensorboard.

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
    bpe_dropout: float = 0.0
    compute_dtype: str | None = None
    checkpoint_layers: bool | None = None
    device: str | None = None
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    freeze: Sequence[str] = ()
    layer_decay: float | None = None
    max_grad_norm: float | None = 1.0
    epochs: int | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    max_bad_steps: int = 10
    checkpoint_every: int | None = None
    best_by: str = "loss"
    beam: int = 1
    bleu_tokenize: str = "13a"
    patience: int | None = None
    average: int | None = None
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
        for name, choices in (("schedule", SCHEDULES), ("final", FINALS), ("bleu_tokenize", TOKENIZERS)):
            arguments.choice(op, name, getattr(self, name), choices)
        if self.compute_dtype is not None:
            arguments.choice(op, "compute_dtype", self.compute_dtype, ACTIVATION_DTYPES)
        if self.device is not None:
            check_device(op, self.device)
        if self.checkpoint_layers is not None:
            self.checkpoint_layers = arguments.flag(op, "checkpoint_layers", self.checkpoint_layers)
        arguments.check_types(op, str, best_by=self.best_by)
        self.tensorboard = arguments.flag(op, "tensorboard", self.tensorboard)
        if not isinstance(self.freeze, list | tuple):
            raise TypeError(f"Trainer: freeze must be a list of patterns, got {type(self.freeze).__name__}")
        arguments.check_types(op, str, **{f"freeze[{i}]": pattern for i, pattern in enumerate(self.freeze)})
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
        if self.schedule != "inverse_sqrt" and self.epochs is None and self.max_steps is None:
            raise ValueError(f"Trainer: schedule={self.schedule!r} needs epochs or max_steps, got none")

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
        self.bpe_dropout = arguments.number(op, "bpe_dropout", self.bpe_dropout, 0.0, 1.0)
        if self.layer_decay is not None:
            self.layer_decay = check_decay(op, "layer_decay", self.layer_decay)
        if self.ema is not None:
            self.ema = arguments.number(op, "ema", self.ema, 0.0, 1.0)
        check_options(op, self.betas, self.eps, self.weight_decay, self.max_grad_norm)
        self.betas = (float(self.betas[0]), float(self.betas[1]))
        self.eps, self.weight_decay = float(self.eps), float(self.weight_decay)
        self.max_grad_norm = None if self.max_grad_norm is None else float(self.max_grad_norm)
