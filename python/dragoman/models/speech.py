"""SpeechTransformer: an encoder-decoder that reads sound, as log-mel frames, and writes text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.arguments import integer
from dragoman.creation import tensor
from dragoman.models import blocks
from dragoman.models.base import register
from dragoman.models.batch import LENGTH, even_batch
from dragoman.models.encoder_decoder import Transformer
from dragoman.models.special_ids import start_ids
from dragoman.models.transformer_config import TransformerConfig
from dragoman.nn import Dropout, Linear, Parameter
from dragoman.tensor import Tensor

Features = npt.NDArray[np.float32]  # (frames, mel_bins)


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(TransformerConfig):
    """The shape of a SpeechTransformer (Radford et al. 2022, arXiv:2212.04356).

    Other attributes as of TransformerConfig. `vocab_size` counts target tokens. The encoder's `max_length` is the
    number of rows that it has positions for: half the frames of the longest source.

    Attributes:
        mel_bins: values of a frame.
    """

    mel_bins: int = 80
    tie_embeddings: Any = "two"

    sizes: ClassVar[tuple[str, ...]] = (*TransformerConfig.sizes, "mel_bins")

    def __post_init__(self) -> None:
        known = isinstance(self.tie_embeddings, str)  # what else it may be is an error of TransformerConfig
        self._check("tie_embeddings", not (known and self.ties_inputs), '"none" or "two": sound has no embedding')
        self._check("tgt_vocab_size", self.tgt_vocab_size is None, "None: vocab_size counts target tokens")
        self._check("max_source_length", self.max_source_length is None, "None: frames are never cut")
        super().__post_init__()


@register("speech")
class SpeechTransformer(Transformer):
    """An encoder-decoder Transformer that reads sound (Radford et al. 2022, arXiv:2212.04356), in training mode at
    first.

    A source is an array of frames, float32 (frames, mel_bins), as `dragoman.data.log_mel` gives them. Their number is
    even. Two convolutions over three frames each come before the encoder's layers; the second one halves the frames.
    What Transformer says of source ids holds for frames, and Sequences of a source count the encoder's rows.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, as in Model.
    """

    config_class = SpeechConfig
    config: SpeechConfig

    def _make_source(self, source: TransformerConfig) -> Parameter | None:
        self.conv1 = Linear(3 * self.config.mel_bins, source.d_model)
        self.conv2 = Linear(3 * source.d_model, source.d_model)
        self.src_positions = blocks.positions(source)
        self.src_dropout = Dropout(source.embedding_dropout)
        return None

    def encode(self, src_ids: npt.ArrayLike | Tensor, src_sequences: Sequences) -> Tensor:
        """What the decoder reads.

        Args:
            src_ids: float32 (frames, mel_bins), source after source, as `pack_source` gives them.
            src_sequences: where the rows of each source begin, a row for each two frames.

        Returns:
            The memory, (rows, d_model of the encoder).
        """
        lengths = src_sequences.lengths
        frames = [2 * length for length in lengths]
        values = src_ids.numpy() if isinstance(src_ids, Tensor) else np.asarray(src_ids, np.float32)
        shape = sum(frames), self.config.mel_bins
        if values.shape != shape:
            raise ValueError(f"encode: src_ids must be frames of shape {shape}, got {values.shape}")
        device = next(iter(self.parameters())).device
        padded = np.concatenate([values, np.zeros((1, self.config.mel_bins), np.float32)])
        windows = padded[_neighbours(frames, 1)].reshape(-1, 3 * self.config.mel_bins)
        x = self.conv1(functional.cast(tensor(windows, device), self.dtype), Sequences(frames), activation="gelu")
        features = x.shape[1]
        zeros = functional.cast(tensor(np.zeros((1, features), np.float32), device), self.dtype)
        x = functional.gather(functional.concat([x, zeros]), _neighbours(frames, 2))
        x = self.conv2(functional.reshape(x, [-1, 3 * features]), src_sequences, activation="gelu")
        if self.src_positions is not None:
            table = functional.cast(self.src_positions(src_sequences.max_length), self.dtype)
            x = x + functional.gather(table, np.concatenate([np.arange(0), *map(np.arange, lengths)]))
        return self.encoder(self.src_dropout(x), src_sequences)

    def pack_source(self, op: str, src_batch: Any) -> tuple[Any, Sequences]:
        """Frames end to end, float32 (frames, mel_bins), checked in the name of `op`, and the Sequences of the
        encoder's rows."""
        bins, positions = self.config.mel_bins, self.config.encoder_side
        if not isinstance(src_batch, list | tuple | np.ndarray):
            raise TypeError(f"{op}: src_batch must be a list of arrays of frames, got {type(src_batch).__name__}")
        for i, features in enumerate(src_batch):
            if not isinstance(features, np.ndarray) or features.dtype != np.float32:
                got = f"dtype {features.dtype}" if isinstance(features, np.ndarray) else type(features).__name__
                raise TypeError(f"{op}: src_batch[{i}] must be a float32 array of frames, got {got}")
            if features.ndim != 2 or features.shape[1] != bins or len(features) % 2 or not len(features):
                expected = f"(frames, {bins}) with an even number of frames above 0"
                raise ValueError(f"{op}: src_batch[{i}] must have shape {expected}, got {features.shape}")
            longest = 2 * positions.max_length
            if positions.positions == "learned" and len(features) > longest:
                raise ValueError(f"{op}: src_batch[{i}] must have at most {longest} frames, got {len(features)}")
        sequences = Sequences([len(features) // 2 for features in src_batch])
        return np.concatenate([np.zeros((0, bins), np.float32), *src_batch]), sequences

    def example_batch(self, tokens: int | tuple[int, int]) -> tuple[Any, Any]:
        """Sources of so many rows of the encoder, and targets of so many tokens, the start included."""
        sides = tokens if isinstance(tokens, tuple) and len(tokens) == 2 else (tokens, tokens)
        source, target = (integer("memory_plan", "tokens", side, 1, 2**24) for side in sides)
        longest = self.config.encoder_side.max_length
        sentences = max(-(-source // longest), -(-target // LENGTH))
        frames = [np.zeros((2 * len(rows), self.config.mel_bins), np.float32) for rows in even_batch(source, sentences)]
        started = sentences * len(start_ids(self.config))
        return frames, even_batch(max(target - started, 0), sentences)


def _neighbours(lengths: Sequence[int], stride: int) -> npt.NDArray[np.int64]:
    """For every `stride`-th row of each sequence the rows before it, itself and after it, end to end. A row that its
    sequence lacks is the one after all rows."""
    total = sum(lengths)
    found = []
    first = 0
    for length in lengths:
        rows = np.arange(0, length, stride)[:, None] + np.arange(-1, 2)
        inside = (rows >= 0) & (rows < length)
        found.append(np.where(inside, rows + first, total).ravel())
        first += length
    return np.concatenate(found) if found else np.empty(0, np.int64)
