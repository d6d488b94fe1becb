"""Trainer: runs a training."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dragoman import arguments
from dragoman.data.batches import Batches
from dragoman.data.columns import Dataset, Table
from dragoman.data.held_out import hold_out, share_of
from dragoman.data.tokenizer import Tokenizer
from dragoman.distributed import this_process
from dragoman.models.base import Model, registered_name
from dragoman.nn.module import Module
from dragoman.train.callbacks import Record
from dragoman.train.checkpoint import checkpoints_to_keep
from dragoman.train.fine_tuning import frozen
from dragoman.train.folder import RunFolder, check_shared
from dragoman.train.loop import TrainingRun
from dragoman.train.options import TrainingOptions
from dragoman.train.store import RunStore
from dragoman.train.task import Later, Task
from dragoman.train.translation import Translation
from dragoman.train.validation import Validation


@dataclass
class Trainer(TrainingOptions):
    """Trains a model on a task; `fit` runs it.

    Args:
        model: trained in place; any Module. With `output` it needs a method `save`.
        task: what the model learns; `Translation(tokenizer)` by default.
        tokenizer: of the default task: needed for pairs of text; it travels with the model.
        output, batch_tokens, ...: the attributes of `TrainingOptions`, as keywords.

    Raises:
        TypeError, ValueError: a value of another type, or out of range; a model that cannot learn the task.
    """

    model: Module = field(repr=False)
    task: Task = field(default=None, kw_only=True, repr=False)  # type: ignore[assignment]  # set when it is made
    tokenizer: Tokenizer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        arguments.check_types("Trainer", Module, model=self.model)
        if self.tokenizer is not None:
            arguments.check_types("Trainer", Tokenizer, tokenizer=self.tokenizer)
        if self.task is None:
            self.task = Translation(self.tokenizer)
        elif self.tokenizer is not None:
            raise ValueError("Trainer: tokenizer must be None beside a task, which has its own")
        arguments.check_types("Trainer", Task, task=self.task)
        self.task.check_model(self.model)
        if self.output is not None and isinstance(self.model, Model):
            registered_name(type(self.model))  # without a name it could not be saved
        super().__post_init__()
        if self.output is not None and not hasattr(self.model, "save"):
            raise TypeError(f"Trainer: model must have a method save beside output, got {type(self.model).__name__}")
        arguments.choice("Trainer", "best_by", self.best_by, ("loss", *self.task.scores))
        if self.bpe_dropout:
            self.task.splitter(self.options)
        if self.compute_dtype is None:
            self.compute_dtype = getattr(self.model, "compute_dtype", "float32")
        self.model.compute_dtype = self.compute_dtype  # type: ignore[attr-defined]
        if self.checkpoint_layers is not None:
            self._checkpoint_layers(self.checkpoint_layers)
        if self.lr is None:
            d_model = getattr(getattr(self.model, "config", None), "d_model", None)
            if d_model is None:
                raise ValueError("Trainer: lr must be given for a model without config.d_model, got None")
            self.lr = 0.64 / d_model
        if self.average is None:
            self.average = checkpoints_to_keep(self.model, ema=self.ema is not None)
        if self.device is not None:
            self.model.to(self.device)

    def _checkpoint_layers(self, value: bool) -> None:
        """Sets the model's property. ValueError for a model without it, or without layers."""
        if isinstance(self.model, Model):
            self.model.checkpoint_layers = value
        if value and not getattr(self.model, "checkpoint_layers", False):
            kind = type(self.model).__name__
            raise ValueError(f"Trainer: checkpoint_layers needs a Model with a TransformerStack, got {kind}")

    @property
    def options(self) -> TrainingOptions:
        """The settings alone, as they are now."""
        return TrainingOptions(**{option.name: getattr(self, option.name) for option in fields(TrainingOptions)})

    def fit(self, train: Any, validation: Any = None, *, resume: bool = False, overwrite: bool = False) -> list[Record]:
        """Trains until a limit is reached.

        SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is closed) end the run after the step at hand, a validation at
        once, with a checkpoint. Nothing in `output` is changed before everything is checked.

        Args:
            train: a list of the task's examples, or a dataset (`dragoman.data.Shards`). For translation an example
                is a (source, target) pair: texts, or lists of token ids (the target's without <s> and </s>). `Later`
                makes them once the run holds `output`.
            validation: a list or a dataset, for a measurement at each checkpoint. A number, in (0, 1), is the share of
                `train` that is held out for it: see `dragoman.data.hold_out`.
            resume: go on from the newest checkpoint in `output`, to the bits that a run without a break would
                reach.
            overwrite: replace the run or the model in `output`. Files of other names stay.

        Returns:
            The records of this call, as written to `output`/log.jsonl. A number that is not finite is None.

        Raises:
            TypeError: data that are no list of examples.
            ValueError: data that give no batches; nothing to resume from, or a checkpoint of other data, another task
                or another model; an `output` in which another run is at work, or that holds a run, a model or files of
                another origin, without `resume` and `overwrite`.
            FloatingPointError: max_bad_steps in a row had no finite loss and gradient, or the final model's loss is not
                finite. Then model.safetensors is from the last good checkpoint.
            ModuleNotFoundError: `best_by` BLEU or chrF without sacrebleu.
            OSError: a file cannot be written; the last checkpoint stands.
            KeyboardInterrupt, SystemExit: after a SIGINT, a SIGTERM or SIGHUP, once everything is saved.
        """
        resume = arguments.flag("Trainer", "resume", resume)
        overwrite = arguments.flag("Trainer", "overwrite", overwrite)
        if not isinstance(train, Later):
            self._check("train", train)
        share = share_of("Trainer", "validation", validation) if arguments.is_number(validation) else None
        if validation is not None and share is None:
            self._check("validation", validation)
        if validation is None and (self.final == "best" or self.patience is not None):
            raise ValueError("Trainer: final='best' and patience need validation data, got None")
        with this_process().together():
            run = self._run(train, validation, share, resume=resume, overwrite=overwrite)
        run.stop.raise_received()
        return run.progress.records

    def _run(self, train: Any, validation: Any, share: float | None, *, resume: bool, overwrite: bool) -> TrainingRun:
        options, ranks = self.options, this_process()
        measured = None
        if validation is not None and share is None:
            measured = Validation(self.model, self.task, validation, options, ranks)
        folder = RunFolder(options.output if ranks.first else None, resume=resume, overwrite=overwrite)
        with folder, frozen(self.model, options.freeze):
            if options.output is not None:
                check_shared(options.output, ranks)
            store = RunStore(self.model, self.task, options, resume=resume, ranks=ranks)
            if isinstance(train, Later):
                train = ranks.after_first(train.make)
                self._check("train", train)
            dataset = train if isinstance(train, Dataset) else Table(self.task.encode(train))
            if share is not None:
                dataset, held_out = hold_out(dataset, share)
                measured = Validation(self.model, self.task, held_out, options, ranks)
            batches = self._batches(dataset, options)
            run = TrainingRun(self.model, self.task, options, batches, measured, store, ranks)
            run.run()
        return run

    def _batches(self, dataset: Dataset, options: TrainingOptions) -> Batches:
        task, model = self.task, self.model
        return Batches(
            dataset,
            lambda lengths: task.costs(lengths, model, options),
            options.batch_tokens,
            seed=options.seed,
            unit=task.unit,
            limits=f"max_length={options.max_length}, min_length={options.min_length}, max_ratio={options.max_ratio}",
        )

    def _check(self, name: str, examples: Any) -> None:
        if not isinstance(examples, Dataset):
            self.task.check(name, examples)
        elif examples.names != self.task.columns:
            raise ValueError(f"Trainer: {name} must have the columns {self.task.columns}, got {examples.names}")
