"""TransformerConfig: the shape of an encoder-decoder, whose sides may differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from dragoman.models.config import TextConfig, is_json_number

SIDES = ("encoder", "decoder")

_OF_BOTH = ("vocab_size", "pad_id", "bos_id", "eos_id", "unk_id")  # fields of TextConfig that the sides share


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TextConfig):
    """The shape of an encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762).

    Other attributes as of TextConfig.

    Attributes:
        vocab_size: source tokens, and target tokens where `tgt_vocab_size` is None.
        num_encoder_layers, num_decoder_layers: depths; they may differ.
        encoder, decoder: where a side differs, its own fields of TextConfig but the vocabulary and the special ids, as
            {"d_model": 256, "num_heads": 8}; None for a side of the other fields. Cross-attention has the decoder's
            heads and reads rows of the encoder's d_model.
        tgt_vocab_size: target tokens; None for as many as source tokens.
        max_source_length: tokens, </s> included, to which Trainer and Translator cut sources, as in summarisation;
            None for sources that are never cut.
        start_id: what the decoder reads first; None for bos_id. T5 and Marian begin with pad. Of a list, the tokens
            after the first are forced: they begin every output, are neither learned nor returned, and count for no
            score, as BART's [2, 0] and the language of M2M100.
        tie_embeddings: "none"; "two", target embedding = output projection; "inputs", source = target embedding, as in
            T5 v1.1; or "three", all of them. Sides of other widths share no embedding.
        output_bias: whether the output projection has a bias.
        output_scale: factor on the decoder's rows before the output projection: 1 / sqrt(d_model) in T5, whose
            embeddings are tied but not scaled.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """

    num_encoder_layers: int
    num_decoder_layers: int
    encoder: dict[str, Any] | None = field(default=None, hash=False)
    decoder: dict[str, Any] | None = field(default=None, hash=False)
    tgt_vocab_size: int | None = None
    max_source_length: int | None = None
    start_id: int | tuple[int, ...] | None = None
    tie_embeddings: Literal["none", "two", "inputs", "three"] = "three"
    output_bias: bool = False
    output_scale: float = 1.0

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **TextConfig.choices,
        "tie_embeddings": ("none", "two", "inputs", "three"),
    }
    sizes: ClassVar[tuple[str, ...]] = (*TextConfig.sizes, "num_encoder_layers", "num_decoder_layers")
    optional_sizes: ClassVar[tuple[str, ...]] = (*TextConfig.optional_sizes, "tgt_vocab_size", "max_source_length")
    depths: ClassVar[tuple[str, ...]] = ("num_encoder_layers", "num_decoder_layers")
    flags: ClassVar[tuple[str, ...]] = (*TextConfig.flags, "output_bias")

    @classmethod
    def tiny(cls, **overrides: Any) -> Self:
        """4 pre-norm layers of 128 a stack, for tens of thousands of sentence pairs. The sizes are those of Wu et al.
        2021 (arXiv:2105.14462), whose layers are post-norm: these learn faster.
        """
        return super().tiny(**{"norm_first": True, "dropout": 0.2, "embedding_dropout": 0.2, **overrides})

    @property
    def output_size(self) -> int:
        """Number of target tokens."""
        return self.vocab_size if self.tgt_vocab_size is None else self.tgt_vocab_size

    @property
    def encoder_side(self) -> Self:
        """The config with the encoder's own fields in their places."""
        return self._side("encoder")

    @property
    def decoder_side(self) -> Self:
        """The config with the decoder's own fields in their places."""
        return self._side("decoder")

    @property
    def ties_inputs(self) -> bool:
        """Whether source and target have one embedding."""
        return self.tie_embeddings in ("inputs", "three")

    @property
    def ties_output(self) -> bool:
        """Whether the output projection has the target embedding's weight."""
        return self.tie_embeddings in ("two", "three")

    def with_dropout(self, p: float) -> Self:
        rates: dict[str, Any] = dict.fromkeys(self.rates, p)
        for name in SIDES:
            if own := getattr(self, name):
                rates[name] = {key: value for key, value in own.items() if key not in self.rates}
        return dataclasses.replace(self, **rates)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in SIDES:
            self._check_side(name)
        source, target, longest = self.encoder_side, self.decoder_side, self.max_source_length
        if source.positions == "learned" and longest is not None:
            reach = f"at most max_length = {source.max_length}, the rows of learned positions"
            self._check("max_source_length", longest <= source.max_length, reach)
        scale = self.output_scale
        self._check("output_scale", is_json_number(scale) and 0 < scale < math.inf, "a number above 0")
        if self.start_id is not None:
            self._check_id("start_id", several=True)
        self._check("eos_id", self.eos_id is not None, "given")
        self._check("start_id", self.start_id is not None or self.bos_id is not None, "given where bos_id is None")
        fits = not self.ties_inputs or self.output_size == self.vocab_size
        self._check("tgt_vocab_size", fits, f"{self.vocab_size}, the source's, to tie the embeddings of both sides")
        fits = not self.ties_inputs or source.d_model == target.d_model
        widths = f"{source.d_model} and {target.d_model}"
        self._check("tie_embeddings", fits, f'"none" or "two" where the sides have d_model {widths}')

    def _check_side(self, name: str) -> None:
        own = getattr(self, name)
        if own is None:
            return
        self._check(name, isinstance(own, dict), "None or a dict of the fields that differ")
        fields = [field.name for field in dataclasses.fields(TextConfig) if field.name not in _OF_BOTH]
        object.__setattr__(self, name, self._own_fields(name, own, fields))
        with self._named(name):
            self._side(name)  # checks the values

    def _side(self, name: str) -> Self:
        own = getattr(self, name)
        if own is None:
            return self
        return dataclasses.replace(self, encoder=None, decoder=None, max_source_length=None, **own)
