"""MaskedLM: the task of masked tokens (Devlin et al. 2019, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Lengths, lengths_of
from dragoman.data.framing import framed_texts
from dragoman.data.text import Files, iter_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.models.config import ModelConfig
from dragoman.models.encoder import EncoderConfig, TextEncoder
from dragoman.models.special_ids import end_ids
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.callbacks import Record
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch, Score
from dragoman.train.text_task import TextTask, is_text, text_costs


class MaskedLM(TextTask):
    """Texts, some of whose tokens are masked and found again: examples are texts, or ([token ids],).

    Of each text `ratio` of the tokens, at least one, is chosen. Of the chosen tokens 80 % become the mask, 10 % a
    random token, 10 % stay; all of them are to be found. The choice changes from epoch to epoch. The score is
    "accuracy", of the chosen tokens, in percent; the log has the perplexity, too.

    The mask is the tokenizer's, or a token of its own: then the model's vocabulary has one more than the tokenizer's.

    Args:
        tokenizer: needed for examples of text; saved with the model.
        ratio: share of the tokens that is chosen, in [0, 1).
    """

    name = "mlm"
    columns = ("tokens",)
    config_class: ClassVar[type[ModelConfig]] = EncoderConfig
    scores: ClassVar[Mapping[str, Score]] = {"accuracy": Score("accuracy")}
    defaults: ClassVar[Mapping[str, Any]] = {"lr": 1e-3, "label_smoothing": 0.0}

    def __init__(self, tokenizer: Tokenizer | None = None, ratio: float = 0.15) -> None:
        super().__init__(tokenizer)
        self.ratio = arguments.number("MaskedLM", "ratio", ratio, 0.0, 1.0)

    @property
    def vocab_size(self) -> int:
        return super().vocab_size + (self._tokenizer().mask_id is None)

    def config_fields(self) -> dict[str, Any]:
        return {**super().config_fields(), "head": "mlm", "labels": (), "mask_id": self._mask_id()}

    def _mask_id(self) -> int:
        mask = self._tokenizer().mask_id
        return self.vocab_size - 1 if mask is None else mask

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", TextEncoder, model=model)
        config = cast(TextEncoder, model).config
        if config.head != "mlm" or config.mask_id is None:
            raise ValueError(
                f"Trainer: model must have the head 'mlm' and a mask_id, got {config.head!r} and {config.mask_id}"
            )

    def is_text(self, example: Any) -> bool:
        return is_text(example)

    def encode_text(self, examples: Sequence[str]) -> Columns:
        return {"tokens": framed_texts(self._tokenizer(), examples)}

    def costs(self, lengths: Lengths, model: TextEncoder, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        costs = text_costs(lengths["tokens"], model.config.max_length, options)
        return np.where(lengths["tokens"] > 2, costs, 0)  # <s> and </s> alone have nothing to find

    def batch(self, rows: Columns, model: TextEncoder, seed: Sequence[int]) -> Batch:
        config = model.config
        tokens = self.cut(rows["tokens"], model)
        lengths = lengths_of(tokens)
        ids = np.concatenate([np.asarray(each, np.int32) for each in tokens])
        ends = end_ids(config)
        special = [config.pad_id, config.bos_id, *ends, config.unk_id, config.mask_id]
        free = np.setdiff1d(np.arange(config.vocab_size), [id for id in special if id is not None])
        masked, targets = mask_tokens(
            ids,
            lengths,
            may_be_chosen=~np.isin(ids, [*ends] if config.bos_id is None else [config.bos_id, *ends]),
            ratio=self.ratio,
            mask_id=cast(int, config.mask_id),
            random_ids=free,
            seed=seed,
        )
        edges = np.cumsum(lengths)[:-1]
        columns = {"tokens": _cells(masked, edges), "targets": _cells(targets, edges)}
        return Batch(columns, int((targets >= 0).sum()), len(ids))

    def loss(self, model: TextEncoder, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        columns = batch.columns
        return model.loss(columns["tokens"], columns["targets"], options.label_smoothing, num_targets)

    def scorer(self, model: Any, options: TrainingOptions) -> MaskedScorer:
        return MaskedScorer()

    def settings(self) -> dict[str, Any]:
        return {"ratio": self.ratio}

    @classmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterable[str]:
        return iter_texts(files["data"])


class MaskedScorer:
    """How many of the chosen tokens are found."""

    def __init__(self) -> None:
        self._right = self._count = 0

    def measure(self, model: TextEncoder, batch: Batch, examples: Sequence[Any], loss: float) -> tuple[int, int]:
        targets = np.concatenate([np.asarray(each) for each in batch.columns["targets"]])
        places = np.flatnonzero(targets >= 0)
        found = model.logits(batch.columns["tokens"], places=places).argmax(1)
        return int((found == targets[places]).sum()), len(places)

    def add(self, measured: tuple[int, int]) -> None:
        right, count = measured
        self._right += right
        self._count += count

    def record(self) -> Record:
        return {"accuracy": 100.0 * self._right / self._count}


def _cells(ids: npt.NDArray[np.int32], ends: npt.NDArray[np.int64]) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, ends)]


def mask_tokens(
    ids: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int64],
    *,
    may_be_chosen: npt.NDArray[np.bool_],
    ratio: float,
    mask_id: int,
    random_ids: npt.NDArray[np.integer[Any]],
    seed: Sequence[int],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Tokens with masks, and what was there: BERT's 80 % mask, 10 % random, 10 % unchanged.

    Args:
        ids: (tokens,), text after text.
        lengths: (texts,) tokens of each text.
        may_be_chosen: (tokens,) False for tokens that are never chosen.
        ratio: share of the others that is chosen in each text, at least one.
        mask_id: of the mask.
        random_ids: the tokens that may stand in another's place.
        seed: of the choice.

    Returns:
        The tokens (tokens,), and the chosen tokens as they were (tokens,), -1 at other places.
    """
    draw = np.random.default_rng(seed)
    text = np.repeat(np.arange(len(lengths)), lengths)
    candidates = np.bincount(text[may_be_chosen], minlength=len(lengths))
    wanted = np.where(candidates > 0, np.maximum(1, np.rint(ratio * candidates)), 0)
    keys = np.where(may_be_chosen, draw.random(len(ids)), 2.0)  # a text's smallest keys are chosen
    order = np.lexsort((keys, text))
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = rank < wanted[text]
    targets = np.where(chosen, ids, -1).astype(np.int32)
    change = draw.random(len(ids))
    masked = np.where(chosen & (change < 0.8), mask_id, ids)
    other = draw.choice(random_ids, len(ids))
    masked = np.where(chosen & (change >= 0.8) & (change < 0.9), other, masked)
    return masked.astype(np.int32), targets
