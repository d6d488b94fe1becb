"""Transformer: the encoder-decoder model, its loss, and the folder it is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman import arguments, functional
from dragoman._core import Sequences
from dragoman.files import atomic_write, write_arrays
from dragoman.functional.operands import ACTIVATION_DTYPES
from dragoman.models.batch import IdBatch, check_pairs, pack_ids
from dragoman.models.config import TransformerConfig
from dragoman.models.memory import memory_plan
from dragoman.nn import (
    Decoder,
    Embedding,
    Encoder,
    KVCache,
    LayerNorm,
    LearnedPositionalEncoding,
    Linear,
    Module,
    MultiHeadAttention,
    SinusoidalPositionalEncoding,
    TransformerDecoderLayer,
    TransformerEncoderLayer,
    record_attention,
)
from dragoman.tensor import Tensor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class Transformer(Module):
    """An encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762), in training mode at first.

    Batches are lists of lists of token ids; inside, the tokens of a batch lie end to end, without padding.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, "float32" or "bfloat16". Weights, their
            gradients, sums, softmax, norms' statistics and the loss are float32 in either (Micikevicius et al. 2018,
            arXiv:1710.03740; Kalamkar et al. 2019, arXiv:1905.12322). Inference computes in float32.
    """

    def __init__(self, config: TransformerConfig, compute_dtype: str = "float32") -> None:
        arguments.check_types("Transformer", TransformerConfig, config=config)
        self.config = config
        self.compute_dtype = arguments.choice("Transformer", "compute_dtype", compute_dtype, ACTIVATION_DTYPES)
        d_model, tied = config.d_model, config.tie_embeddings
        embedding = partial(
            Embedding,
            features=d_model,
            scale=d_model**0.5 if config.scale_embeddings else 1.0,
            dropout=config.embedding_dropout,
        )
        self.src_embedding = embedding(config.vocab_size)
        self.src_positions = _positions(config)
        self.encoder = _encoder(config)
        self.tgt_embedding = embedding(
            config.output_size, weight=self.src_embedding.weight if tied == "three" else None
        )
        self.tgt_positions = _positions(config)
        self.decoder = _decoder(config)
        self.output = Linear(
            d_model,
            config.output_size,
            bias=config.output_bias,
            weight=None if tied == "none" else self.tgt_embedding.weight,
        )

    def encode(self, src_ids: npt.ArrayLike | Tensor, src_sequences: Sequences) -> Tensor:
        """What the decoder reads.

        Args:
            src_ids: (tokens,) integers, sentence after sentence.
            src_sequences: where each sentence begins.

        Returns:
            The memory, (tokens, d_model).
        """
        positions = self.src_positions(src_sequences.max_length)
        x = self.src_embedding(src_ids, src_sequences, positions, dtype=self._dtype)
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
            tgt_ids: (tokens,) integers, with bos; with a cache, those that follow the ones it holds.
            tgt_sequences: where each sentence begins in tgt_ids.
            memory: (source tokens, d_model), from `encode`.
            src_sequences: sentence i of the target reads sentence i of the memory.
            cache: what earlier calls have computed. The first call projects the memory, so its src_sequences
                must be the encoder's; later ones may be any selection from them.

        Returns:
            (tokens, d_model).
        """
        starts = None if cache is None else cache.starts()
        longest = tgt_sequences.max_length + (0 if cache is None else max(cache.lengths, default=0))
        x = self.tgt_embedding(tgt_ids, tgt_sequences, self.tgt_positions(longest), starts, self._dtype)
        return self.decoder(x, tgt_sequences, memory, src_sequences, cache)

    def project(self, hidden: Tensor, sequences: Sequences | None = None) -> Tensor:
        """Logits: hidden (tokens, d_model) -> (tokens, target vocabulary)."""
        return self.output(hidden, sequences)

    def logits(self, src_batch: IdBatch, tgt_batch: IdBatch) -> npt.NDArray[Any]:
        """Scores of the token after each target token, without dropout whatever the mode.

        Args:
            src_batch: source ids, a list a sentence.
            tgt_batch: target ids as fed to the decoder (with bos), a list a sentence.

        Returns:
            float32 (target tokens, target vocabulary), sentence after sentence.

        Raises:
            TypeError, ValueError: an id that is no integer or not in its vocabulary, naming its place;
                batches of different sizes.
        """
        src_ids, src_sequences = self.pack_source("logits", src_batch)
        tgt_ids, tgt_sequences = pack_ids("logits", "tgt_batch", tgt_batch, self.config.output_size)
        check_pairs("logits", src_batch, tgt_batch)
        with self.inference():
            memory = self.encode(src_ids, src_sequences)
            hidden = self.decode(tgt_ids, tgt_sequences, memory, src_sequences)
            return self.project(hidden).numpy()

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
            tgt_batch: target ids without bos and eos: bos + ids are fed, ids + eos are predicted.
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
        bos, eos = self.config.bos_id, self.config.eos_id
        fed = np.fromiter(chain.from_iterable((bos, *ids) for ids in tgt_batch), np.int32)
        predicted = np.fromiter(chain.from_iterable((*ids, eos) for ids in tgt_batch), np.int32)
        tgt_sequences = Sequences([len(ids) + 1 for ids in tgt_batch])
        hidden = self.decode(fed, tgt_sequences, self.encode(src_ids, src_sequences), src_sequences)
        return functional.linear_cross_entropy(
            hidden,
            self.output.weight,
            predicted,
            bias=self.output.bias,
            label_smoothing=label_smoothing,
            num_targets=num_targets,
        )

    def memory_plan(self, tokens: int | tuple[int, int], compute_dtype: str | None = None) -> dict[str, int]:
        """What a training step takes of memory: see dragoman.models.memory.memory_plan."""
        return memory_plan(self, tokens, compute_dtype)

    def attention_weights(self, src_ids: Sequence[int], tgt_ids: Sequence[int]) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each token of one sentence pair looks.

        Args:
            src_ids: source ids.
            tgt_ids: target ids as fed to the decoder (with bos).

        Returns:
            For "encoder" and "decoder" (self-attention) and "cross" (target to source), an array
            (num_heads, queries, keys) for each layer.
        """
        with record_attention() as record:
            self.logits([src_ids], [tgt_ids])

        def weights(attentions: list[MultiHeadAttention]) -> list[npt.NDArray[Any]]:
            return [record[attention][0].numpy() for attention in attentions]

        return {
            "encoder": weights([layer.self_attention for layer in self.encoder.layers]),
            "decoder": weights([layer.self_attention for layer in self.decoder.layers]),
            "cross": weights([layer.cross_attention for layer in self.decoder.layers]),
        }

    @property
    def _dtype(self) -> str:
        return self.compute_dtype if self.training else "float32"

    def pack_source(self, op: str, src_batch: IdBatch) -> tuple[npt.NDArray[np.int32], Sequences]:
        """Source ids end to end, int32 (tokens,), checked in the name of `op`, and their Sequences."""
        return pack_ids(op, "src_batch", src_batch, self.config.vocab_size)

    def save(self, folder: str | Path) -> None:
        """Writes model.safetensors and config.json into `folder`, made where missing, each atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / WEIGHTS, self.state_dict(copy=False), {"format": "dragoman"})
        atomic_write(folder / CONFIG, (json.dumps(self.config.to_dict(), indent=2) + "\n").encode())


def _positions(config: TransformerConfig) -> SinusoidalPositionalEncoding | LearnedPositionalEncoding:
    if config.positions == "learned":
        return LearnedPositionalEncoding(config.max_length, config.d_model)
    return SinusoidalPositionalEncoding(config.d_model)


def _final_norm(config: TransformerConfig) -> LayerNorm | None:
    return LayerNorm(config.d_model, eps=config.norm_eps) if config.ends_in_norm else None


def _encoder(config: TransformerConfig) -> Encoder:
    layers = [TransformerEncoderLayer(**_layer(config)) for _ in range(config.num_encoder_layers)]
    return Encoder(layers, _final_norm(config))


def _decoder(config: TransformerConfig) -> Decoder:
    layers = [TransformerDecoderLayer(**_layer(config)) for _ in range(config.num_decoder_layers)]
    return Decoder(layers, _final_norm(config))


def _layer(config: TransformerConfig) -> dict[str, Any]:
    """The arguments that encoder and decoder layers share."""
    return {
        "d_model": config.d_model,
        "num_heads": config.num_heads,
        "d_ff": config.d_ff,
        "norm_first": config.norm_first,
        "activation": config.activation,
        "norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
    }
