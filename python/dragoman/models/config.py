"""Configs: what a model is made of, as kept in config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from dragoman.arguments import check_types, did_you_mean, shown
from dragoman.nn.positional import SINUSOIDAL_LAYOUTS
from dragoman.nn.rotary import check_scaling

FORMAT = 1  # of config.json


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Base of configs, each a frozen dataclass whose fields are values that JSON can hold.

    A class lists its fields by what they hold; `__post_init__` checks them, and turns NumPy's numbers into Python's.
    Subclasses add to the lists of their base.

    Attributes:
        choices: the allowed strings of a field.
        sizes: fields that hold an int of at least 1.
        optional_sizes: the same, or None.
        rates: fields that hold a number in [0, 1).
        flags: fields that hold a bool.
    """

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    sizes: ClassVar[tuple[str, ...]] = ()
    optional_sizes: ClassVar[tuple[str, ...]] = ()
    rates: ClassVar[tuple[str, ...]] = ()
    flags: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds beside the name of the model."""
        values = dataclasses.asdict(self)
        return {"format": FORMAT, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that `to_dict` gave. ValueError for an unknown, missing or mistyped field."""
        check_types(cls.__name__, Mapping, values=values)
        fields = dict(values)
        if (got := fields.pop("format", None)) != FORMAT:
            raise ValueError(f"{cls.__name__}: format must be {FORMAT}, got {shown(got)}")
        cls._check_names(fields)
        required = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in fields]:
            raise ValueError(f"{cls.__name__}: {missing[0]} must be given, got none")
        return cls(**fields)

    def with_dropout(self, p: float) -> Self:
        """The same model with every dropout at rate p."""
        rates: dict[str, Any] = dict.fromkeys(self.rates, p)
        return dataclasses.replace(self, **rates)

    def __post_init__(self) -> None:
        for name in (field.name for field in dataclasses.fields(self)):
            value = getattr(self, name)
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())
        for name, choices in self.choices.items():
            value = getattr(self, name)
            self._check(name, isinstance(value, str) and value in choices, f"one of {', '.join(choices)}")
        for name in self.sizes:
            self._check(name, _is_size(getattr(self, name)), "an int of at least 1")
        for name in self.optional_sizes:
            value = getattr(self, name)
            self._check(name, value is None or _is_size(value), "None or an int above 0")
        for name in self.rates:
            value = getattr(self, name)
            self._check(name, is_json_number(value) and 0 <= value < 1, "a number in [0, 1)")
        for name in self.flags:
            self._check(name, isinstance(getattr(self, name), bool), "a bool")

    @classmethod
    def _check_names(cls, values: Mapping[str, Any]) -> None:
        """Raises ValueError for a name that is no field, with the nearest one that is."""
        fields = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in fields:
                raise ValueError(f"{cls.__name__}: unknown field {shown(name)}{did_you_mean(name, fields)}")

    def _check_factor(self, name: str) -> None:
        """Checks a field that is None or a number above 0."""
        value = getattr(self, name)
        fits = value is None or (is_json_number(value) and 0 < value < math.inf)
        self._check(name, fits, "None or a number above 0")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"{type(self).__name__}: {name} must be {expected}, got {shown(getattr(self, name))}")


@dataclass(frozen=True, kw_only=True)
class BlockConfig(ModelConfig):
    """What the layers of every model are made of.

    Attributes:
        d_model: size of a row between layers.
        num_heads: attention heads; a divisor of d_model, unless head_dim is given.
        d_ff: hidden size of the feed-forward networks.
        kv_heads: heads of keys and values, a divisor of num_heads (Ainslie et al. 2023, arXiv:2305.13245); None for
            num_heads.
        head_dim: size of a head; None for d_model / num_heads.
        attention_scale: factor on the products of queries and keys; None for 1 / sqrt(head_dim).
        score_cap: c for scores that become c tanh(score / c) in attention (Gemma Team 2024, arXiv:2408.00118); or None.
        attention_bias: which projections of attention have a bias: letters of "qkvo".
        qk_norm: "none", or "rms" for a norm of every head of queries and keys (Henry et al. 2020, arXiv:2010.04245).
        window: in self-attention a token reads only tokens at most this far from it; None for all.
        norm_first: pre-norm layers, x + sublayer(norm(x)); otherwise post-norm, norm(x + sublayer(x)).
        final_norm: whether a stack ends in a norm; None: pre-norm stacks do, post-norm do not.
        sandwich_norm: pre-norm with a second norm after each sublayer, x + norm(sublayer(norm(x))).
        norm: "layer" or "rms".
        residual: "add", x + y, or "concat", a projection of [y, x].
        activation: of the feed-forward networks, "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid" or "none".
        gated: the feed-forward networks have a gate, activation(x G) * (x W) (Shazeer 2020, arXiv:2002.05202).
        feed_forward_bias: their products have biases.
        norm_eps: added to the variance in norms.
        dropout: rate on the way into residual connections; all rates in [0, 1), in training only.
        attention_dropout: rate of attention weights.
        activation_dropout: rate of the feed-forward networks' hidden values.
        layers: where layers differ, a list of dicts of their own fields, those of attention, of the feed-forward
            network and of positions in attention. Layer i has those of item i; after the last item the list begins
            again. So [{"window": 511}, {}] gives every other layer a window (Child et al. 2019, arXiv:1904.10509). None
            for layers that are alike.
    """

    d_model: int
    num_heads: int
    d_ff: int
    kv_heads: int | None = None
    head_dim: int | None = None
    attention_scale: float | None = None
    score_cap: float | None = None
    attention_bias: str = "qkvo"
    qk_norm: Literal["none", "rms"] = "none"
    window: int | None = None
    norm_first: bool = False
    final_norm: bool | None = None
    sandwich_norm: bool = False
    norm: Literal["layer", "rms"] = "layer"
    residual: Literal["add", "concat"] = "add"
    activation: Literal["relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "none"] = "relu"
    gated: bool = False
    feed_forward_bias: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layers: tuple[dict[str, Any], ...] | None = dataclasses.field(default=None, hash=False)

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "activation": ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "none"),
        "norm": ("layer", "rms"),
        "qk_norm": ("none", "rms"),
        "residual": ("add", "concat"),
    }
    sizes: ClassVar[tuple[str, ...]] = ("d_model", "num_heads", "d_ff")
    optional_sizes: ClassVar[tuple[str, ...]] = ("kv_heads", "head_dim")
    rates: ClassVar[tuple[str, ...]] = ("dropout", "attention_dropout", "activation_dropout")
    flags: ClassVar[tuple[str, ...]] = ("norm_first", "sandwich_norm", "gated", "feed_forward_bias")
    depths: ClassVar[tuple[str, ...]] = ("num_layers",)  # fields that hold the number of layers of a stack
    of_layers: ClassVar[tuple[str, ...]] = (  # fields that `layers` may hold
        *("num_heads", "kv_heads", "head_dim", "attention_scale", "attention_bias", "qk_norm", "window"),
        *("d_ff", "activation", "gated", "feed_forward_bias"),
    )

    @classmethod
    def tiny(cls, **overrides: Any) -> Self:
        """4 layers of 128 a stack, for tens of thousands of sentence pairs (Wu et al. 2021, arXiv:2105.14462)."""
        return cls._preset(overrides, 10000, 128, 4, 256, 4, dropout=0.3, embedding_dropout=0.3)

    @classmethod
    def small(cls, **overrides: Any) -> Self:
        """4 layers of 256 a stack."""
        return cls._preset(overrides, 8000, 256, 4, 1024, 4)

    @classmethod
    def base(cls, **overrides: Any) -> Self:
        """6 layers of 512 a stack: the base model of Vaswani et al. 2017."""
        return cls._preset(overrides, 32000, 512, 8, 2048, 6)

    @classmethod
    def big(cls, **overrides: Any) -> Self:
        """6 layers of 1024 a stack: the big model of Vaswani et al. 2017."""
        return cls._preset(overrides, 32000, 1024, 16, 4096, 6, dropout=0.3, embedding_dropout=0.3)

    @classmethod
    def _preset(
        cls,
        overrides: dict[str, Any],
        vocab: int,
        d_model: int,
        heads: int,
        d_ff: int,
        layers: int,
        **rates: float,
    ) -> Self:
        depths = dict.fromkeys(cls.depths, layers)
        sizes = {"vocab_size": vocab, "d_model": d_model, "num_heads": heads, "d_ff": d_ff, **depths}
        cls._check_names(overrides)
        fields = [field.name for field in dataclasses.fields(cls)]
        return cls(**({name: value for name, value in (sizes | rates).items() if name in fields} | overrides))

    @property
    def ends_in_norm(self) -> bool:
        """Whether a stack ends in a norm."""
        return self.norm_first if self.final_norm is None else self.final_norm

    def of_layer(self, place: int) -> Self:
        """The config with the own fields of the layer at `place` of a stack."""
        if not self.layers:
            return self
        own: dict[str, Any] = self.layers[place % len(self.layers)]
        return dataclasses.replace(self, layers=None, **own)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("final_norm", isinstance(self.final_norm, bool | None), "None or a bool")
        eps = self.norm_eps
        self._check("norm_eps", is_json_number(eps) and 0 < eps < 1, "a number in (0, 1)")
        self._check("sandwich_norm", self.norm_first or not self.sandwich_norm, "False without norm_first")
        fits = self.head_dim is not None or self.d_model % self.num_heads == 0
        self._check("num_heads", fits, f"a divisor of d_model = {self.d_model}")
        fits = self.kv_heads is None or self.num_heads % self.kv_heads == 0
        self._check("kv_heads", fits, f"a divisor of num_heads = {self.num_heads}")
        window = self.window
        self._check_factor("attention_scale")
        self._check_factor("score_cap")
        self._check("window", window is None or (_is_int(window) and window >= 0), "None or an int of at least 0")
        letters = self.attention_bias
        fits = isinstance(letters, str) and not set(letters) - set("qkvo")
        self._check("attention_bias", fits, 'made of letters of "qkvo"')
        if self.layers is not None:
            self._check_layers()

    def _check_layers(self) -> None:
        items: Any = self.layers
        good = isinstance(items, list | tuple) and 1 <= len(items) <= 1000
        good = good and all(isinstance(item, dict) for item in items)
        self._check("layers", good, "None or a list of 1 to 1,000 dicts of fields")
        object.__setattr__(self, "layers", tuple(self._own_fields("layers", item, self.of_layers) for item in items))
        for place in range(len(items)):
            with self._named("layers"):
                self.of_layer(place)  # checks the values

    def _own_fields(self, argument: str, own: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
        """A copy of the fields in which a part differs, with Python's numbers. ValueError for one that is not its."""
        for name in own:
            if name not in fields:
                hint = did_you_mean(str(name), fields)
                expected = "only fields in which it may differ"
                raise ValueError(f"{type(self).__name__}: {argument} must hold {expected}, got {shown(name)}{hint}")
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in own.items()}

    @contextmanager
    def _named(self, argument: str) -> Iterator[None]:
        """Inside, an error names the field that holds the one that is wrong, too."""
        try:
            yield
        except ValueError as error:
            raise ValueError(str(error).replace(": ", f": {argument}: ", 1)) from None


@dataclass(frozen=True, kw_only=True)
class TextConfig(BlockConfig):
    """What models that read tokens share, beside their layers.

    Attributes:
        vocab_size: number of tokens.
        positions: tables added to embeddings, "sinusoidal" or "learned"; in self-attention "relative" (Raffel et al.
            2020), "alibi" (Press et al. 2022), "shaw" (Shaw et al. 2018) or "rotary" (Su et al. 2021), see
            dragoman.nn; or "none".
        position_layout: of a sinusoidal table, "interleaved", "halves" or "fairseq".
        position_offset: rows of a table before that of the first token.
        position_buckets: of relative positions.
        position_distance: what relative positions tell apart: distances up to it; None for 128, and 16 of shaw.
        position_sharing: the layers of a stack share the table of relative positions, as in T5; otherwise each has one
            of its own, as in UMT5 (Chung et al. 2023, arXiv:2304.09151).
        rotary_features: of a head that rotary positions turn; None for all.
        rotary_base: of rotary positions.
        rotary_scaling: how they are slowed for longer texts, see dragoman.nn.RotaryPositions; or None.
        max_length: the longest output of a search by default; also rows of a learned table without position_rows.
        position_rows: positions of a learned table, at least max_length; None for max_length.
        scale_embeddings: multiply embeddings by sqrt(d_model).
        embedding_norm: a norm follows the sum of embeddings and positions, as in BERT.
        embedding_dropout: rate of embeddings with their positions.
        pad_id, bos_id, unk_id: padding, beginning of a sentence, unknown token; None for no such token. Special ids may
            be the same. Outputs never contain these, except where one is an eos_id, too.
        eos_id: what ends a sentence; or several, each of which ends an output. Training writes the first. None where
            nothing does: outputs go on to the longest length.
    """

    vocab_size: int
    positions: Literal["sinusoidal", "learned", "relative", "alibi", "shaw", "rotary", "none"] = "sinusoidal"
    position_layout: Literal["interleaved", "halves"] = "interleaved"
    position_offset: int = 0
    position_buckets: int = 32
    position_distance: int | None = None
    position_sharing: bool = True
    rotary_features: int | None = None
    rotary_base: float = 10000.0
    rotary_scaling: dict[str, Any] | None = dataclasses.field(default=None, hash=False)
    max_length: int = 1024
    position_rows: int | None = None
    scale_embeddings: bool = True
    embedding_norm: bool = False
    embedding_dropout: float = 0.1
    pad_id: int | None = 0
    bos_id: int | None = 1
    eos_id: int | tuple[int, ...] | None = 2
    unk_id: int | None = 3

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **BlockConfig.choices,
        "positions": ("sinusoidal", "learned", "relative", "alibi", "shaw", "rotary", "none"),
        "position_layout": SINUSOIDAL_LAYOUTS,
    }
    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", *BlockConfig.sizes, "position_buckets", "max_length")
    optional_sizes: ClassVar[tuple[str, ...]] = (
        *BlockConfig.optional_sizes,
        *("position_distance", "position_rows", "rotary_features"),
    )
    rates: ClassVar[tuple[str, ...]] = (*BlockConfig.rates, "embedding_dropout")
    flags: ClassVar[tuple[str, ...]] = (*BlockConfig.flags, "position_sharing", "scale_embeddings", "embedding_norm")
    of_layers: ClassVar[tuple[str, ...]] = (
        *BlockConfig.of_layers,
        *("positions", "position_buckets", "position_distance", "rotary_features", "rotary_base", "rotary_scaling"),
    )

    @property
    def output_size(self) -> int:
        """Number of tokens that the model can predict."""
        return self.vocab_size

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positions()
        fits = all(item.get("positions") not in ("sinusoidal", "learned") for item in self.layers or ())
        self._check("layers", fits, "without sinusoidal and learned positions, which are those of embeddings")
        for name in ("pad_id", "bos_id", "unk_id"):
            self._check_id(name, optional=True)
        self._check_id("eos_id", optional=True, several=True)
        ends = self.eos_id
        fits = not isinstance(ends, tuple) or len(set(ends)) == len(ends)
        self._check("eos_id", fits, "a list of different ids")

    def _check_id(self, name: str, *, optional: bool = False, several: bool = False) -> None:
        """Checks a field that holds a token, or None where it is optional. A list of several becomes a tuple."""
        value, smallest = getattr(self, name), min(self.vocab_size, self.output_size)
        expected = f"an int in [0, {smallest})" + (", or a list of them" if several else "")
        if several and isinstance(value, list | tuple):
            ids = [id.item() if isinstance(id, np.generic) else id for id in value]
            good = all(_is_int(id) and 0 <= id < smallest for id in ids)
            self._check(name, bool(ids) and good, expected)
            object.__setattr__(self, name, tuple(ids))
        else:
            good = _is_int(value) and 0 <= value < smallest
            self._check(name, good or (optional and value is None), ("None or " if optional else "") + expected)

    def _check_positions(self) -> None:
        offset, base = self.position_offset, self.rotary_base
        self._check("position_offset", _is_int(offset) and offset >= 0, "an int of at least 0")
        rows = self.position_rows
        self._check("position_rows", rows is None or rows >= self.max_length, f"None or at least {self.max_length}")
        self._check("rotary_base", is_json_number(base) and 0 < base < math.inf, "a number above 0")
        plain = self.positions not in ("relative", "alibi", "shaw")
        self._check("score_cap", self.score_cap is None or plain, "None with positions that change scores")
        if self.rotary_scaling is not None:
            self._check("rotary_base", base > 1, "above 1 with rotary_scaling")
            scaling = check_scaling(type(self).__name__, "rotary_scaling", self.rotary_scaling)
            object.__setattr__(self, "rotary_scaling", scaling)
        if self.positions == "relative":
            self._check("position_buckets", self.position_buckets >= 4, "an int of at least 4")
            # A causal stack has no buckets for later tokens, so half of its buckets hold one distance each.
            near, furthest = self.position_buckets // 2, self.position_distance
            self._check("position_distance", (furthest or 128) > near, f"above {near}, half of position_buckets")
        if self.positions == "rotary":
            size, turned = self.head_dim or self.d_model // self.num_heads, self.rotary_features
            fits = turned is not None or size % 2 == 0
            self._check("rotary_features", fits, f"an even number below {size}, the size of a head")
            fits = turned is None or (turned % 2 == 0 and turned <= size)
            self._check("rotary_features", fits, f"an even number, at most {size}, the size of a head")


def check_labels(config: ModelConfig, needed: bool) -> tuple[str, ...]:
    """The field `labels` of a config as a tuple. ValueError unless it holds texts, all different, some if `needed`."""
    labels: Any = config.labels  # type: ignore[attr-defined]
    good = isinstance(labels, list | tuple) and all(isinstance(label, str) for label in labels)
    if not good or len(set(labels)) < len(labels) or bool(labels) != needed:
        expected = "a list of at least one text, all different" if needed else "empty for this head"
        raise ValueError(f"{type(config).__name__}: labels must be {expected}, got {labels!r}")
    return tuple(labels)


def _is_int(value: object) -> bool:
    """As `is_json_number`, of an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return _is_int(value) and value >= 1


def is_json_number(value: object) -> bool:
    """Whether config.json can hold `value` as a number. A bool and a number of NumPy are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
