"""VisionTransformer: an encoder of images, cut into patches, with a head for labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.arguments import integer
from dragoman.creation import tensor
from dragoman.models import blocks
from dragoman.models.base import Model, register
from dragoman.models.config import BlockConfig, check_labels
from dragoman.models.heads import LabelHead
from dragoman.nn import (
    Dropout,
    Encoder,
    LearnedPositionalEncoding,
    Linear,
    TransformerEncoderLayer,
    init,
    record_attention,
)
from dragoman.nn.weight import Parameter
from dragoman.tensor import Tensor


@dataclass(frozen=True, kw_only=True)
class VisionConfig(BlockConfig):
    """The shape of a vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929).

    Other attributes as of BlockConfig.

    Attributes:
        num_layers: depth.
        image_size: height and width of an image in pixels.
        patch_size: height and width of a patch; a divisor of image_size.
        channels: values of a pixel.
        labels: the names of the labels in the order of their numbers. A list becomes a tuple.
        pooling: what the head reads: "class", the row of a token before the patches, or "mean", that of all patches.
        embedding_dropout: rate of patches with their positions.
    """

    num_layers: int
    image_size: int
    patch_size: int
    channels: int = 3
    labels: tuple[str, ...] = ()
    pooling: Literal["class", "mean"] = "class"
    norm_first: bool = True
    activation: Any = "gelu"
    embedding_dropout: float = 0.1

    choices: ClassVar[Any] = {**BlockConfig.choices, "pooling": ("class", "mean")}
    sizes: ClassVar[tuple[str, ...]] = (*BlockConfig.sizes, "num_layers", "image_size", "patch_size", "channels")
    rates: ClassVar[tuple[str, ...]] = (*BlockConfig.rates, "embedding_dropout")

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return int((self.image_size // self.patch_size) ** 2)

    @property
    def num_tokens(self) -> int:
        """Rows of an image: its patches and the class token."""
        return self.num_patches + (self.pooling == "class")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.image_size, self.image_size, self.channels

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.image_size % self.patch_size == 0
        self._check("patch_size", fits, f"a divisor of image_size = {self.image_size}")
        object.__setattr__(self, "labels", check_labels(self, True))


@register("vision")
class VisionTransformer(Model):
    """An encoder of images with a head for labels (Dosovitskiy et al. 2021, arXiv:2010.11929).

    Images are a NumPy array (images, height, width, channels), or (images, height, width) of one channel: uint8, or
    floats in which 0 is black and 1 white. Patches run from left to right, then from top to bottom.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, as in Model.
    """

    config_class = VisionConfig
    config: VisionConfig

    def __init__(self, config: VisionConfig, compute_dtype: str = "float32") -> None:
        super().__init__(config, compute_dtype)
        self.patches = Linear(config.patch_size**2 * config.channels, config.d_model)
        self.class_token = Parameter(init.normal(1, config.d_model)) if config.pooling == "class" else None
        self.positions = LearnedPositionalEncoding(config.num_tokens, config.d_model)
        self.dropout = Dropout(config.embedding_dropout)
        layers = blocks.layers(config, config.num_layers)
        self.encoder = Encoder([TransformerEncoderLayer(**layer) for layer in layers], blocks.final_norm(config))
        self.head = LabelHead(config.d_model, len(config.labels), config.dropout)

    def encode(self, images: npt.ArrayLike) -> Tensor:
        """The encoder's rows, (images * num_tokens, d_model), image after image; the class token comes first."""
        return self._encode("encode", images)

    def __call__(self, images: npt.ArrayLike) -> Tensor:
        """Scores of the labels, (images, labels), in the mode that the model stands in.

        Raises:
            TypeError, ValueError: images of another dtype or shape.
        """
        return self.head(self._pooled("VisionTransformer", images))

    def logits(self, images: npt.ArrayLike) -> npt.NDArray[Any]:
        """As a call, but without dropout and off the tape whatever the mode; a float32 array."""
        with self.inference():
            return self.head(self._pooled("logits", images)).numpy()

    def loss(
        self,
        images: npt.ArrayLike,
        targets: npt.ArrayLike,
        label_smoothing: float = 0.0,
        num_targets: int | None = None,
    ) -> Tensor:
        """Mean cross entropy of the labels' numbers, (images,). Arguments as of TextEncoder."""
        pooled = self._pooled("loss", images)
        return self.head.cross_entropy(pooled, targets, label_smoothing=label_smoothing, num_targets=num_targets)

    def attention_weights(self, image: npt.ArrayLike) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each row of one image looks: for "encoder", an array (num_heads, queries, keys) for each layer."""
        with record_attention() as record:
            self.logits(np.asarray(image)[None])
        return {"encoder": [record[layer.self_attention][0].numpy() for layer in self.encoder.layers]}

    def example_batch(self, tokens: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Images of so many rows, rounded up to whole images, and labels."""
        count = -(-integer("memory_plan", "tokens", tokens, minimum=1) // self.config.num_tokens)
        return np.zeros((count, *self.config.image_shape), np.uint8), np.zeros(count, np.int32)

    def _pooled(self, op: str, images: npt.ArrayLike) -> Tensor:
        rows = self._encode(op, images)
        sequences = self._sequences(rows.shape[0] // self.config.num_tokens)
        return functional.pool(rows, sequences, "first" if self.config.pooling == "class" else "mean")

    def _sequences(self, count: int) -> Sequences:
        return Sequences([self.config.num_tokens] * count)

    def _encode(self, op: str, images: npt.ArrayLike) -> Tensor:
        cut = cut_patches(op, images, self.config)
        count, tokens = len(cut) // self.config.num_patches, self.config.num_tokens
        x = self.patches(functional.cast(tensor(cut, self.positions.weight.device), self.dtype))
        places = np.tile(np.arange(tokens), count)
        if self.class_token is not None:
            x = functional.concat([functional.cast(self.class_token, self.dtype), x])
            first = (places == 0).reshape(count, tokens)
            x = functional.gather(x, np.where(first, 0, np.cumsum(~first).reshape(first.shape)).ravel())
        positions = functional.cast(self.positions(tokens), self.dtype)
        x = self.dropout(x + functional.gather(positions, places))
        return self.encoder(x, self._sequences(count))


def check_images(op: str, array: npt.NDArray[Any], config: VisionConfig) -> npt.NDArray[Any]:
    """The images as (images, height, width, channels). TypeError, ValueError as of `cut_patches`."""
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise TypeError(f"{op}: images must be uint8 or floats, got dtype {array.dtype}")
    height, width, channels = config.image_shape
    if array.ndim == 3 and channels == 1:
        array = array[..., None]
    if array.shape[1:] != config.image_shape:
        raise ValueError(f"{op}: images must have shape (images, {height}, {width}, {channels}), got {array.shape}")
    return array


def cut_patches(op: str, images: npt.ArrayLike, config: VisionConfig) -> npt.NDArray[np.float32]:
    """The patches of images as rows of values from -1 to 1, float32 (images * num_patches, patch_size^2 * channels).

    Raises:
        TypeError, ValueError: images of another dtype or shape.
    """
    array = check_images(op, np.asarray(images), config)
    size, channels = config.patch_size, config.channels
    rows = config.image_size // size
    scaled = array.astype(np.float32) / np.float32(127.5 if array.dtype == np.uint8 else 0.5) - np.float32(1)
    parts = scaled.reshape(len(array), rows, size, rows, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(parts).reshape(-1, size * size * channels)
