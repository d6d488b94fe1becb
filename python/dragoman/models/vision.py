"""VisionTransformer: an encoder of images, cut into patches, with a head for labels."""

from __future__ import annotations

import sys
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
from dragoman.models.config import BlockConfig, check_labels, is_json_number
from dragoman.models.heads import LABEL_KINDS, LabelHead
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

RESAMPLINGS = ("nearest", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True, kw_only=True)
class VisionConfig(BlockConfig):
    """The shape of a vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929).

    Other attributes as of BlockConfig.

    Attributes:
        num_layers: depth.
        image_size: height and width of an image in pixels.
        patch_size: height and width of a patch; a divisor of image_size.
        channels: values of a pixel.
        mean, std: the patches hold (pixel - mean) / std, where 0 is black and 1 white: lists of a number for each
            channel, or of one for all.
        resize: an ImageClassifier scales an image to this height and width, and cuts the middle image_size out of it;
            None for images that have image_size already.
        resample: how: "nearest", "bilinear", "bicubic" or "lanczos".
        labels: the names of the labels in the order of their numbers; none for a model without a head.
        label_kind: as of EncoderConfig.
        pooling: what the head reads: "class", the row of a token before the patches, or "mean", that of all patches.
        distillation: of DeiT (Touvron et al. 2021, arXiv:2012.12877): "token", a second token follows the class token;
            "head", it has a head of its own, too, and scores are the mean of both heads'.
        embedding_dropout: rate of patches with their positions.
    """

    num_layers: int
    image_size: int
    patch_size: int
    channels: int = 3
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    resize: int | None = None
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    labels: tuple[str, ...] = ()
    label_kind: Literal["one", "several", "numbers"] = "one"
    pooling: Literal["class", "mean"] = "class"
    distillation: Literal["none", "token", "head"] = "none"
    norm_first: bool = True
    activation: Any = "gelu"
    embedding_dropout: float = 0.1

    choices: ClassVar[Any] = {
        **BlockConfig.choices,
        "pooling": ("class", "mean"),
        "distillation": ("none", "token", "head"),
        "resample": RESAMPLINGS,
        "label_kind": LABEL_KINDS,
    }
    optional_sizes: ClassVar[tuple[str, ...]] = (*BlockConfig.optional_sizes, "resize")
    sizes: ClassVar[tuple[str, ...]] = (*BlockConfig.sizes, "num_layers", "image_size", "patch_size", "channels")
    rates: ClassVar[tuple[str, ...]] = (*BlockConfig.rates, "embedding_dropout")

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return int((self.image_size // self.patch_size) ** 2)

    @property
    def num_tokens(self) -> int:
        """Rows of an image: its patches and the tokens before them."""
        return self.num_patches + (self.pooling == "class") + (self.distillation != "none")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self.image_size, self.image_size, self.channels

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.image_size % self.patch_size == 0
        self._check("patch_size", fits, f"a divisor of image_size = {self.image_size}")
        headless = isinstance(self.labels, list | tuple) and not self.labels
        object.__setattr__(self, "labels", check_labels(self, not headless))
        self._check(
            "distillation", self.distillation == "none" or self.pooling == "class", '"none" without pooling "class"'
        )
        self._check(
            "distillation", self.distillation != "head" or bool(self.labels), '"none" or "token" without labels'
        )
        self._check(
            "resize", self.resize is None or self.resize >= self.image_size, f"None or at least {self.image_size}"
        )
        for name, least in (("mean", -sys.float_info.max), ("std", 0)):
            values: Any = getattr(self, name)
            good = isinstance(values, list | tuple) and len(values) in (1, self.channels)
            good = good and all(is_json_number(value) and least < value <= sys.float_info.max for value in values)
            self._check(
                name, good, f"a list of one number or {self.channels}" + (", all above 0" if least == 0 else "")
            )
            object.__setattr__(self, name, tuple(float(value) for value in values))


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
        distilled = config.distillation != "none"
        self.distillation_token = Parameter(init.normal(1, config.d_model)) if distilled else None
        self.positions = LearnedPositionalEncoding(config.num_tokens, config.d_model)
        self.dropout = Dropout(config.embedding_dropout)
        layers = blocks.layers(config, config.num_layers)
        self.encoder = Encoder([TransformerEncoderLayer(**layer) for layer in layers], blocks.final_norm(config))
        sizes = (config.d_model, len(config.labels), config.dropout)
        self.head = LabelHead(*sizes) if config.labels else None
        self.distillation_head = LabelHead(*sizes) if config.distillation == "head" else None

    def encode(self, images: npt.ArrayLike) -> Tensor:
        """The encoder's rows, (images * num_tokens, d_model), image after image; the class token comes first."""
        return self._encode("encode", images)

    def __call__(self, images: npt.ArrayLike) -> Tensor:
        """Scores of the labels, (images, labels), in the mode that the model stands in; of a model without labels, the
        encoder's rows.

        Raises:
            TypeError, ValueError: images of another dtype or shape.
        """
        return self._scores("VisionTransformer", images)

    def logits(self, images: npt.ArrayLike) -> npt.NDArray[Any]:
        """As a call, but without dropout and off the tape whatever the mode; a float32 array."""
        with self.inference():
            return self._scores("logits", images).numpy()

    def loss(
        self,
        images: npt.ArrayLike,
        targets: npt.ArrayLike,
        label_smoothing: float = 0.0,
        num_targets: int | None = None,
    ) -> Tensor:
        """Mean cross entropy of the labels' numbers, (images,). Arguments as of TextEncoder.

        With `distillation` "head", the mean of both heads' losses.
        """
        if self.head is None:
            raise ValueError("loss: the config must have labels, got none")
        kind = self.config.label_kind

        def of_head(head: LabelHead, rows: Tensor) -> Tensor:
            if kind == "one":
                return head.cross_entropy(rows, targets, label_smoothing=label_smoothing, num_targets=num_targets)
            return head.loss(rows, targets, kind, num_targets=num_targets)

        rows = self._encode("loss", images)
        loss = of_head(self.head, self._pooled(rows))
        if self.distillation_head is None:
            return loss
        return (loss + of_head(self.distillation_head, self._distilled(rows))) * 0.5

    def attention_weights(self, image: npt.ArrayLike) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each row of one image looks: for "encoder", an array (num_heads, queries, keys) for each layer."""
        with record_attention() as record:
            self.logits(np.asarray(image)[None])
        return {"encoder": [record[layer.self_attention][0].numpy() for layer in self.encoder.layers]}

    def example_batch(self, tokens: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Images of so many rows, rounded up to whole images, and labels."""
        count = -(-integer("memory_plan", "tokens", tokens, minimum=1) // self.config.num_tokens)
        return np.zeros((count, *self.config.image_shape), np.uint8), np.zeros(count, np.int32)

    def _scores(self, op: str, images: npt.ArrayLike) -> Tensor:
        rows = self._encode(op, images)
        if self.head is None:
            return rows
        scores = self.head(self._pooled(rows))
        if self.distillation_head is None:
            return scores
        return (scores + self.distillation_head(self._distilled(rows))) * 0.5

    def _pooled(self, rows: Tensor) -> Tensor:
        sequences = self._sequences(rows.shape[0] // self.config.num_tokens)
        return functional.pool(rows, sequences, "first" if self.config.pooling == "class" else "mean")

    def _distilled(self, rows: Tensor) -> Tensor:
        """The rows of the distillation tokens."""
        return functional.gather(rows, np.arange(1, rows.shape[0], self.config.num_tokens))

    def _sequences(self, count: int) -> Sequences:
        return Sequences([self.config.num_tokens] * count)

    def _encode(self, op: str, images: npt.ArrayLike) -> Tensor:
        cut = cut_patches(op, images, self.config)
        count, tokens = len(cut) // self.config.num_patches, self.config.num_tokens
        x = self.patches(functional.cast(tensor(cut, self.positions.weight.device), self.dtype))
        places = np.tile(np.arange(tokens), count)
        first = [functional.cast(t, self.dtype) for t in (self.class_token, self.distillation_token) if t is not None]
        if first:
            x = functional.concat([*first, x])
            patch = places >= len(first)
            x = functional.gather(x, np.where(patch, len(first) - 1 + np.cumsum(patch), places))
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
    """The patches of images as rows, float32 (images * num_patches, patch_size^2 * channels): (pixel - mean) / std.

    Raises:
        TypeError, ValueError: images of another dtype or shape.
    """
    array = check_images(op, np.asarray(images), config)
    size, channels = config.patch_size, config.channels
    rows = config.image_size // size
    mean, std = np.array(config.mean), np.array(config.std)
    white = 255 if array.dtype == np.uint8 else 1
    scaled = array.astype(np.float32) / (white * std).astype(np.float32) - (mean / std).astype(np.float32)
    parts = scaled.reshape(len(array), rows, size, rows, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(parts).reshape(-1, size * size * channels)
