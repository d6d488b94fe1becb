"""Denoising: the task of pretraining an encoder-decoder on texts alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dragoman import arguments
from dragoman.data.columns import Columns, Lengths
from dragoman.data.frame import Frame
from dragoman.data.text import Files, iter_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.models.config import ModelConfig
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.special_ids import end_ids, start_ids
from dragoman.models.transformer_config import TransformerConfig
from dragoman.nn.module import Module
from dragoman.tensor import Tensor
from dragoman.train.noise import cut_spans, fill_in, permute, random_spans
from dragoman.train.options import TrainingOptions
from dragoman.train.task import Batch
from dragoman.train.text_task import TextTask, is_text, text_costs

NOISES = ("spans", "infilling")

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class Denoising(TextTask):
    """Texts that a model reads with noise and writes without: examples are texts, or ([token ids], [tokens of each
    sentence]).

    "spans" is T5's noise (Raffel et al. 2020, arXiv:1910.10683): spans are cut out, and the target holds them.
    "infilling" is BART's (Lewis et al. 2020, arXiv:1910.13461): a mask stands for a span of any length, sentences
    change places, and the target is the whole text. The noise changes from epoch to epoch. The log has the perplexity.

    The sentinels are the last `sentinels` tokens of the model's vocabulary, the first of them the last token; the mask
    of "infilling" is the first sentinel.

    Args:
        tokenizer: needed for examples of text; saved with the model.
        noise: "spans" or "infilling".
        density: share of the tokens that is noise, in [0, 1); None for 0.15 of "spans" and 0.3 of "infilling".
        mean_span: mean length of a span, at least 1.
        sentinels: number of them; a text has at most as many spans, less one.
    """

    name = "denoise"
    columns = ("tokens", "sentences")
    config_class: ClassVar[type[ModelConfig]] = TransformerConfig

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        noise: str = "spans",
        density: float | None = None,
        mean_span: float = 3.0,
        sentinels: int = 100,
    ) -> None:
        super().__init__(tokenizer)
        self.noise = arguments.choice("Denoising", "noise", noise, NOISES)
        default = 0.15 if noise == "spans" else 0.3
        self.density = arguments.number("Denoising", "density", default if density is None else density, 0.0, 1.0)
        self.mean_span = arguments.number("Denoising", "mean_span", mean_span, 1.0)
        self.sentinels = arguments.integer("Denoising", "sentinels", sentinels, 2)

    @property
    def vocab_size(self) -> int:
        return super().vocab_size + self.sentinels

    def check_model(self, model: Module) -> None:
        arguments.check_types("Trainer", Transformer, model=model)

    def is_text(self, example: Any) -> bool:
        return is_text(example)

    def encode_text(self, examples: Sequence[str]) -> Columns:
        sentences = [_SENTENCE_END.split(text.strip()) for text in examples]
        spelt = iter(self._tokenizer().encode_batch([part for parts in sentences for part in parts]))
        ids = [[next(spelt) for _ in parts] for parts in sentences]
        return {
            "tokens": [[id for part in parts for id in part] for parts in ids],
            "sentences": [[len(part) for part in parts] for parts in ids],
        }

    def costs(self, lengths: Lengths, model: Transformer, options: TrainingOptions) -> npt.NDArray[np.integer[Any]]:
        tokens = lengths["tokens"]
        return np.where(tokens >= 2, text_costs(tokens + 1, _longest(model.config) + 1, options), 0)

    def batch(self, rows: Columns, model: Transformer, seed: Sequence[int]) -> Batch:
        draw, frame = np.random.default_rng(seed), Frame(suffix=end_ids(model.config)[:1])
        maximum, first = _longest(model.config), model.config.vocab_size - 1
        sources, targets = [], []
        for tokens, sentences in zip(rows["tokens"], rows["sentences"], strict=True):
            ids = tokens[:maximum]
            if self.noise == "spans":
                noise = random_spans(len(ids), self.density, self.mean_span, draw)
                source, target = cut_spans(ids, noise, range(first, first - self.sentinels, -1))
            else:
                whole = permute(ids, sentences, draw) if len(ids) == len(tokens) else ids
                source, target = fill_in(whole, self.density, self.mean_span, first, draw), [*map(int, ids)]
            sources.append(frame.cut(frame.around(source), model.config.max_source_length))
            targets.append(target)
        count = sum(map(len, targets)) + len(targets)
        return Batch({"source": sources, "target": targets}, count, count + sum(map(len, sources)))

    def loss(self, model: Transformer, batch: Batch, num_targets: int, options: TrainingOptions) -> Tensor:
        return model.loss(batch.columns["source"], batch.columns["target"], options.label_smoothing, num_targets)

    def settings(self) -> dict[str, Any]:
        return {
            "noise": self.noise,
            "density": self.density,
            "mean_span": self.mean_span,
            "sentinels": self.sentinels,
        }

    @classmethod
    def examples(cls, files: Mapping[str, Files], **settings: Any) -> Iterable[str]:
        return iter_texts(files["data"])


def _longest(config: TransformerConfig) -> int:
    """Tokens of a text that both sides have places for, one of them beside what begins or ends it."""
    longest = min(config.encoder_side.max_length, config.decoder_side.max_length)
    return max(longest - len(start_ids(config)), 1)
