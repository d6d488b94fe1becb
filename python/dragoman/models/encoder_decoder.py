"""Transformer: the encoder-decoder model and its loss, and what a search needs of such a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.arguments import check_types, integer
from dragoman.models import blocks
from dragoman.models.base import Model, register
from dragoman.models.batch import LENGTH, IdBatch, check_pairs, even_batch, pack_ids
from dragoman.models.special_ids import end_ids, start_ids
from dragoman.models.transformer_config import TransformerConfig
from dragoman.nn import (
    Decoder,
    Encoder,
    KVCache,
    Linear,
    Parameter,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    record_attention,
)
from dragoman.tensor import Tensor, check_sequences


@runtime_checkable
class EncoderDecoder(Protocol):
    """What a search needs of a model; methods as of Transformer. The config holds the special ids (pad_id, bos_id,
    eos_id, unk_id, and start_id where it is not bos_id) and max_length."""

    config: Any

    def pack_source(self, op: str, src_batch: IdBatch) -> tuple[npt.NDArray[np.int32], Sequences]: ...

    def encode(self, src_ids: npt.ArrayLike | Tensor, src_sequences: Sequences) -> Tensor: ...

    def decode(
        self,
        tgt_ids: npt.ArrayLike | Tensor,
        tgt_sequences: Sequences,
        memory: Tensor,
        src_sequences: Sequences,
        cache: KVCache | None = None,
    ) -> Tensor: ...

    def project(self, hidden: Tensor, sequences: Sequences | None = None) -> Tensor: ...

    def inference(self) -> AbstractContextManager[None]: ...


@register("encoder_decoder")
class Transformer(Model):
    """An encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762), in training mode at first.

    Batches are lists of lists of token ids; inside, the tokens of a batch lie end to end, without padding.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, as in Model.
    """

    config_class = TransformerConfig
    config: TransformerConfig

    def __init__(self, config: TransformerConfig, compute_dtype: str = "float32") -> None:
        super().__init__(config, compute_dtype)
        source, target = config.encoder_side, config.decoder_side
        shared = self._make_source(source)
        layers = blocks.layers(source, config.num_encoder_layers)
        self.encoder = Encoder([TransformerEncoderLayer(**layer) for layer in layers], blocks.final_norm(source))
        self.tgt_embedding = blocks.embedding(target, config.output_size, shared)
        self.tgt_positions = blocks.positions(target)
        layers = blocks.layers(target, config.num_decoder_layers, causal=True)
        self.decoder = Decoder(
            [TransformerDecoderLayer(**layer, d_memory=source.d_model) for layer in layers], blocks.final_norm(target)
        )
        weight = self.tgt_embedding.weight if config.ties_output else None
        self.output = Linear(target.d_model, config.output_size, bias=config.output_bias, weight=weight)

    def _make_source(self, source: TransformerConfig) -> Parameter | None:
        """Makes what turns a source into the rows that the encoder reads. Returns the weight that the target's
        embedding shares, if any."""
        self.src_embedding = blocks.embedding(source, self.config.vocab_size)
        self.src_positions = blocks.positions(source)
        return self.src_embedding.weight if self.config.ties_inputs else None

    def encode(self, src_ids: npt.ArrayLike | Tensor, src_sequences: Sequences) -> Tensor:
        """What the decoder reads.

        Args:
            src_ids: (tokens,) integers, sentence after sentence.
            src_sequences: where each sentence begins.

        Returns:
            The memory, (tokens, d_model of the encoder).
        """
        check_sequences("encode", src_sequences=src_sequences)
        positions = None if self.src_positions is None else self.src_positions(src_sequences.max_length)
        x = self.src_embedding(src_ids, src_sequences, positions, dtype=self.dtype)
        return self.encoder(x, src_sequences)

    def decode(
        self,
        tgt_ids: npt.ArrayLike | Tensor,
        tgt_sequences: Sequences,
        memory: Tensor,
        src_sequences: Sequences,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The decoder's output for every target token, each of which sees itself and the earlier ones.

        Args:
            tgt_ids: (tokens,) integers, with the start; with a cache, those that follow the ones it holds.
            tgt_sequences: where each sentence begins in tgt_ids.
            memory: (source tokens, d_model), from `encode`.
            src_sequences: sentence i of the target reads sentence i of the memory.
            cache: what earlier calls have computed. The first call projects the memory, so its src_sequences
                must be the encoder's; later ones may be any selection from them.

        Returns:
            (tokens, d_model).
        """
        check_sequences("decode", tgt_sequences=tgt_sequences, src_sequences=src_sequences)
        if cache is not None:
            check_types("decode", KVCache, cache=cache)
        starts = None if cache is None else cache.starts()
        longest = tgt_sequences.max_length + (0 if cache is None else max(cache.lengths, default=0))
        positions = None if self.tgt_positions is None else self.tgt_positions(longest)
        x = self.tgt_embedding(tgt_ids, tgt_sequences, positions, starts, self.dtype)
        return self.decoder(x, tgt_sequences, memory, src_sequences, cache)

    def project(self, hidden: Tensor, sequences: Sequences | None = None) -> Tensor:
        """Logits: hidden (tokens, d_model) -> (tokens, target vocabulary)."""
        return self.output(self._scaled(hidden), sequences)

    def _scaled(self, hidden: Tensor) -> Tensor:
        scale = self.config.output_scale
        return hidden if scale == 1 else functional.scale(hidden, scale)

    def __call__(self, src_batch: IdBatch, tgt_batch: IdBatch) -> Tensor:
        """Scores of the token after each target token, in the mode that the model stands in.

        Args:
            src_batch: source ids, a list a sentence.
            tgt_batch: target ids as fed to the decoder, with the start (`start_id` of the config), a list a sentence.

        Returns:
            (target tokens, target vocabulary), sentence after sentence: on the tape and with dropout in training, in
            compute_dtype; float32 in inference.

        Raises:
            TypeError, ValueError: an id that is no integer or not in its vocabulary, naming its place;
                batches of different sizes.
        """
        return self._logits("Transformer", src_batch, tgt_batch)

    def logits(self, src_batch: IdBatch, tgt_batch: IdBatch) -> npt.NDArray[Any]:
        """As a call, but without dropout and off the tape whatever the mode; a float32 array."""
        with self.inference():
            return self._logits("logits", src_batch, tgt_batch).numpy()

    def _logits(self, op: str, src_batch: IdBatch, tgt_batch: IdBatch) -> Tensor:
        src_ids, src_sequences = self.pack_source(op, src_batch)
        tgt_ids, tgt_sequences = pack_ids(op, "tgt_batch", tgt_batch, self.config.output_size)
        check_pairs(op, src_batch, tgt_batch)
        memory = self.encode(src_ids, src_sequences)
        return self.project(self.decode(tgt_ids, tgt_sequences, memory, src_sequences))

    def loss(
        self,
        src_batch: IdBatch,
        tgt_batch: IdBatch,
        label_smoothing: float = 0.1,
        num_targets: int | None = None,
    ) -> Tensor:
        """Mean cross entropy of the target's tokens and the eos after them, with label smoothing
        (Szegedy et al. 2016, arXiv:1512.00567).

        Args:
            src_batch: source ids, a list a sentence.
            tgt_batch: target ids without start and eos: start + ids are fed, ids + eos are predicted.
            label_smoothing: how much of the target distribution is spread over the vocabulary.
            num_targets: what the sum is divided by (of all batches of a step); the batch's own by default.

        Returns:
            A scalar.

        Raises:
            TypeError, ValueError: as `logits`; ValueError for an empty batch.
        """
        src_ids, src_sequences = self.pack_source("loss", src_batch)
        pack_ids("loss", "tgt_batch", tgt_batch, self.config.output_size)
        check_pairs("loss", src_batch, tgt_batch)
        if not len(tgt_batch):
            raise ValueError("loss: tgt_batch must hold at least one sentence, got none")
        start, eos = start_ids(self.config), end_ids(self.config)[0]
        forced = [-1] * (len(start) - 1)  # no targets
        fed = np.fromiter(chain.from_iterable((*start, *ids) for ids in tgt_batch), np.int32)
        predicted = np.fromiter(chain.from_iterable((*forced, *ids, eos) for ids in tgt_batch), np.int32)
        tgt_sequences = Sequences([len(start) + len(ids) for ids in tgt_batch])
        hidden = self._scaled(self.decode(fed, tgt_sequences, self.encode(src_ids, src_sequences), src_sequences))
        return self.output.cross_entropy(hidden, predicted, label_smoothing=label_smoothing, num_targets=num_targets)

    def example_batch(self, tokens: int | tuple[int, int]) -> tuple[IdBatch, IdBatch]:
        """Sources and targets of so many tokens, the targets' start included; `tokens` of both or a pair of counts."""
        sides = tokens if isinstance(tokens, tuple) and len(tokens) == 2 else (tokens, tokens)
        source, target = (integer("memory_plan", "tokens", side, 1, _MOST) for side in sides)
        sentences = -(-max(source, target) // LENGTH)
        started = sentences * len(start_ids(self.config))
        return even_batch(source, sentences), even_batch(max(target - started, 0), sentences)

    def attention_weights(self, src_ids: Sequence[int], tgt_ids: Sequence[int]) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each token of one sentence pair looks.

        Args:
            src_ids: source ids.
            tgt_ids: target ids as fed to the decoder, with the start.

        Returns:
            For "encoder" and "decoder" (self-attention) and "cross" (target to source), an array
            (num_heads, queries, keys) for each layer.
        """
        with record_attention() as record:
            self.logits([src_ids], [tgt_ids])
        encoder, decoder = self.encoder.layers, self.decoder.layers
        return {
            "encoder": [record[layer.self_attention][0].numpy() for layer in encoder],
            "decoder": [record[layer.self_attention][0].numpy() for layer in decoder],
            "cross": [record[layer.cross_attention][0].numpy() for layer in decoder if layer.cross_attention],
        }

    def pack_source(self, op: str, src_batch: IdBatch) -> tuple[npt.NDArray[np.int32], Sequences]:
        """Source ids end to end, int32 (tokens,), checked in the name of `op`, and their Sequences."""
        return pack_ids(op, "src_batch", src_batch, self.config.vocab_size)


_MOST = 2**24  # tokens of a side: more than any batch that trains
