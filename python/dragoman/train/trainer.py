"""Trainer: runs a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from dragoman import arguments
from dragoman.data.batches import Batches, Pair, encode_pairs
from dragoman.data.tokenizer import Tokenizer
from dragoman.train.callbacks import Record
from dragoman.train.loop import TrainingRun
from dragoman.train.options import TrainingOptions
from dragoman.train.validation import Pairs, Validation, is_text


class Trainer(TrainingOptions):
    """Trains a Transformer on sentence pairs; `fit` runs it.

    Args:
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
        TypeError, ValueError: a value of another type, or out of range.
    """

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
            TypeError: data that are no list of pairs.
            ValueError: data that give no batches; nothing to resume from, or a checkpoint of other data or
                another model; an `output` that holds a run already, without `resume`.
            FloatingPointError: max_bad_steps in a row had no finite gradient.
            ModuleNotFoundError: `best_by` BLEU or chrF without sacrebleu.
            OSError: a file cannot be written; the last checkpoint stands.
            KeyboardInterrupt, SystemExit: after a SIGINT, a SIGTERM, once everything is saved.
        """
        arguments.flag("Trainer", "resume", resume)
        self._check_pairs("train", train)
        if validation is not None:
            self._check_pairs("validation", validation)
        if validation is None and (self.final == "best" or self.patience is not None):
            raise ValueError("Trainer: final='best' and patience need validation data, got None")
        held_out = None if validation is None else self._validation(validation)
        return TrainingRun(self, self._batches(train), held_out, resume).run()

    def _batches(self, pairs: Pairs) -> Batches:
        if is_text(pairs):
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
        beam = None if self.best_by == "loss" else self.beam
        limits = {"batch_tokens": self.batch_tokens, "max_length": self.max_length}
        return Validation(self.model, pairs, self.tokenizer, **limits, beam=beam)

    def _check_pairs(self, name: str, pairs: Pairs) -> None:
        if not isinstance(pairs, Sequence) or isinstance(pairs, str | bytes):
            raise TypeError(f"Trainer: {name} must be a list of pairs, got {type(pairs).__name__}")
        if not len(pairs):
            raise ValueError(f"Trainer: {name} must hold at least one pair, got none")
        first = pairs[0]
        sides = [_kind(side) for side in first] if isinstance(first, tuple | list) else None
        if sides not in (["text", "text"], ["ids", "ids"]):
            raise TypeError(f"Trainer: {name}[0] must be two texts or two lists of ids, got {first!r}")
        if is_text(pairs) and self.tokenizer is None:
            raise ValueError(f"Trainer: {name} of text needs a tokenizer, got none")


def _kind(side: object) -> str | None:
    """What a side of a pair is made of."""
    if isinstance(side, str):
        return "text"
    return "ids" if isinstance(side, Sequence | np.ndarray) else None
