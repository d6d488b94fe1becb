"""TextDecoder: a decoder-only model of text, which predicts each token from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.arguments import integer
from dragoman.models import blocks
from dragoman.models.base import Model, register
from dragoman.models.batch import LENGTH, IdBatch, even_batch, pack_ids
from dragoman.models.config import TextConfig
from dragoman.nn import KVCache, Linear, TransformerLayer, TransformerStack, record_attention
from dragoman.tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(TextConfig):
    """The shape of a decoder-only model (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    Other attributes as of TextConfig.

    Attributes:
        num_layers: depth.
        tie_embeddings: whether the output projection has the embedding's weight.
        output_bias: whether the output projection has a bias.
        logit_cap: c for logits that become c tanh(logit / c) (Gemma Team 2024, arXiv:2408.00118); or None.
        max_length: tokens of the pieces that longer texts are cut into in training; the longest text of a search by
            default; rows of a learned table of positions.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """

    num_layers: int
    tie_embeddings: bool = True
    output_bias: bool = False
    logit_cap: float | None = None

    sizes: ClassVar[tuple[str, ...]] = (*TextConfig.sizes, "num_layers")
    flags: ClassVar[tuple[str, ...]] = (*TextConfig.flags, "tie_embeddings", "output_bias")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_factor("logit_cap")


@register("decoder")
class TextDecoder(Model):
    """A decoder-only model, in training mode at first.

    Batches are lists of lists of token ids; inside, the tokens of a batch lie end to end, without padding.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, as in Model.
    """

    config_class = DecoderConfig
    config: DecoderConfig

    def __init__(self, config: DecoderConfig, compute_dtype: str = "float32") -> None:
        super().__init__(config, compute_dtype)
        self.embedding = blocks.embedding(config, config.vocab_size)
        self.positions = blocks.positions(config)
        layers = blocks.layers(config, config.num_layers, causal=True)
        self.decoder = TransformerStack(
            [TransformerLayer(**layer, causal=True) for layer in layers], blocks.final_norm(config)
        )
        weight = self.embedding.weight if config.tie_embeddings else None
        self.output = Linear(config.d_model, config.vocab_size, bias=config.output_bias, weight=weight)

    def decode(self, ids: npt.ArrayLike | Tensor, sequences: Sequences, cache: KVCache | None = None) -> Tensor:
        """The rows of tokens, each of which sees itself and the earlier ones.

        Args:
            ids: (tokens,) integers, text after text; with a cache, those that follow the ones it holds.
            sequences: where each text begins in ids.
            cache: what earlier calls have computed.

        Returns:
            (tokens, d_model).
        """
        starts = None if cache is None else cache.starts()
        longest = sequences.max_length + (0 if cache is None else max(cache.lengths, default=0))
        positions = None if self.positions is None else self.positions(longest)
        x = self.embedding(ids, sequences, positions, starts, self.dtype)
        return self.decoder(x, sequences, cache=cache)

    def project(self, hidden: Tensor, sequences: Sequences | None = None) -> Tensor:
        """Logits: hidden (tokens, d_model) -> (tokens, vocabulary)."""
        logits = self.output(hidden, sequences)
        if (cap := self.config.logit_cap) is not None:
            logits = functional.tanh(logits * (1 / cap), sequences=sequences) * cap
        return logits

    def __call__(self, batch: IdBatch) -> Tensor:
        """Scores of the token after each token, in the mode that the model stands in.

        Args:
            batch: ids, a list a text.

        Returns:
            (tokens, vocabulary), text after text: on the tape and with dropout in training, in compute_dtype; float32
            in inference.

        Raises:
            TypeError, ValueError: an id that is no integer or not in the vocabulary, naming its place.
        """
        return self._logits("TextDecoder", batch)

    def logits(self, batch: IdBatch) -> npt.NDArray[Any]:
        """As a call, but without dropout and off the tape whatever the mode; a float32 array."""
        with self.inference():
            return self._logits("logits", batch).numpy()

    def _logits(self, op: str, batch: IdBatch) -> Tensor:
        ids, sequences = pack_ids(op, "batch", batch, self.config.vocab_size)
        return self.project(self.decode(ids, sequences), sequences)

    def loss(self, batch: IdBatch, label_smoothing: float = 0.0, num_targets: int | None = None) -> Tensor:
        """Mean cross entropy of each text's tokens but the first, given those before.

        Args:
            batch: ids, a list a text: with the token that begins it and the one that ends it, where it has them.
            label_smoothing: how much of the target distribution is spread over the vocabulary.
            num_targets: what the sum is divided by (of all batches of a step); the batch's own by default.

        Returns:
            A scalar.

        Raises:
            TypeError, ValueError: as a call; a text without a token.
        """
        pack_ids("loss", "batch", batch, self.config.vocab_size)
        if not len(batch) or not all(len(ids) for ids in batch):
            raise ValueError("loss: batch must hold at least one text, and each at least one token, got none")
        fed = np.fromiter(chain.from_iterable(ids[:-1] for ids in batch), np.int32)
        predicted = np.fromiter(chain.from_iterable(ids[1:] for ids in batch), np.int32)
        sequences = Sequences([len(ids) - 1 for ids in batch])
        hidden = self.decode(fed, sequences)
        options: dict[str, Any] = {"label_smoothing": label_smoothing, "num_targets": num_targets}
        if self.config.logit_cap is None:
            return self.output.cross_entropy(hidden, predicted, **options)
        return functional.cross_entropy(self.project(hidden, sequences), predicted, sequences=sequences, **options)

    def example_batch(self, tokens: int) -> tuple[IdBatch]:
        """Texts of so many tokens that are read."""
        integer("memory_plan", "tokens", tokens, minimum=1)
        texts = -(-tokens // LENGTH)
        return (even_batch(tokens + texts, texts),)

    def attention_weights(self, ids: Sequence[int]) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each token of one text looks: for "decoder", an array (num_heads, queries, keys) for each layer."""
        with record_attention() as record:
            self.logits([ids])
        return {"decoder": [record[layer.self_attention][0].numpy() for layer in self.decoder.layers]}

    def pack_source(self, op: str, src_batch: IdBatch) -> tuple[npt.NDArray[np.int32], Sequences]:
        """Ids that a search goes on from, end to end, int32 (tokens,), checked in the name of `op`, and their
        Sequences."""
        return pack_ids(op, "src_batch", src_batch, self.config.vocab_size)
