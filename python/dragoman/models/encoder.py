"""TextEncoder: an encoder of text with a head, for labels of texts, labels of words, masked words, or vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from dragoman import functional
from dragoman._core import Sequences
from dragoman.arguments import integer
from dragoman.models import blocks
from dragoman.models.base import Model, register
from dragoman.models.batch import LENGTH, IdBatch, even_batch, pack_ids
from dragoman.models.config import TextConfig, check_labels
from dragoman.models.heads import LABEL_KINDS, LabelHead, MaskedLMHead, unit_length
from dragoman.models.pooling import KINDS, pool
from dragoman.nn import Encoder, Linear, TransformerEncoderLayer, record_attention
from dragoman.tensor import Tensor

HEADS = ("none", "classify", "tag", "mlm")

Words = Sequence[Sequence[int]]  # for each sentence, how many tokens each of its words has


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TextConfig):
    """The shape of an encoder with a head.

    Other attributes as of TextConfig.

    Attributes:
        num_layers: depth.
        head: what is learned: "classify", a label for a text; "tag", a label for each word or token; "mlm", masked
            tokens (Devlin et al. 2019, arXiv:1810.04805); or "none", rows and vectors alone.
        labels: the names of the labels in the order of their numbers, of "classify" and "tag". A list becomes a tuple.
        label_kind: of "classify": "one", a text has one of the labels; "several", it has any of them, each with a
            probability of its own; "numbers", it has a number for each, learned by squared errors.
        pooling: how the rows of a text, or with "tag" those of a word, become one: "mean", "max", "first", "last",
            "mean_sqrt" or "weighted_mean", see dragoman.models.pooling. For `vectors` alone a list of them, too: the
            pooled rows lie side by side.
        pooler: with "classify", a projection with tanh lies between the pooled row and the head, as in BERT. Without a
            head it is kept for one to come (`load_body`).
        projections: layers through which `vectors` go after pooling, a list of dicts: "features", and where they are
            not the defaults "activation" ("none") and "bias" (True).
        normalise: whether `vectors` have length 1.
        prompts: what a SentenceEncoder writes before a text, by the name of the use: {"query": "query: "}.
        default_prompt: the name of the prompt that it writes where none is asked for; None for no prompt.
        max_length: tokens to which texts are cut in training and in use.
        head_activation: of the pooler, "tanh" by default, and of the head "mlm", "gelu" by default.
        tie_embeddings: the head "mlm" has the embeddings as weights.
        token_types: how many types of tokens there are, each with an embedding, as BERT's first and second text; None
            for no types.
        mask_id: the token that stands for a masked one, for "mlm"; None for no such token.

    Raises:
        ValueError: naming the field, what was expected and what came.
    """

    num_layers: int
    head: Literal["none", "classify", "tag", "mlm"] = "none"
    labels: tuple[str, ...] = ()
    label_kind: Literal["one", "several", "numbers"] = "one"
    pooling: str | tuple[str, ...] = "mean"
    pooler: bool = False
    projections: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    normalise: bool = False
    prompts: dict[str, str] | None = field(default=None, hash=False)
    default_prompt: str | None = None
    max_length: int = 512
    mask_id: int | None = None
    head_activation: str | None = None
    tie_embeddings: bool = True
    token_types: int | None = None

    choices: ClassVar[Any] = {**TextConfig.choices, "head": HEADS, "label_kind": LABEL_KINDS}
    sizes: ClassVar[tuple[str, ...]] = (*TextConfig.sizes, "num_layers")
    optional_sizes: ClassVar[tuple[str, ...]] = (*TextConfig.optional_sizes, "token_types")
    flags: ClassVar[tuple[str, ...]] = (*TextConfig.flags, "pooler", "normalise", "tie_embeddings")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "labels", check_labels(self, self.head in ("classify", "tag")))
        fits = self.head in ("classify", "none") or not self.pooler
        self._check("pooler", fits, f'False for the head "{self.head}"')
        kinds = self.choices["activation"]
        self._check_vectors()
        fits = self.head_activation is None or (isinstance(self.head_activation, str) and self.head_activation in kinds)
        self._check("head_activation", fits, f"None or one of {', '.join(kinds)}")
        mask = self.mask_id
        good = mask is None or (isinstance(mask, int) and not isinstance(mask, bool) and 0 <= mask < self.vocab_size)
        self._check("mask_id", good, f"None or an int in [0, {self.vocab_size})")

    @property
    def vector_size(self) -> int:
        """Size of a text's vector."""
        if self.projections:
            return int(self.projections[-1]["features"])
        return self.d_model * (1 if isinstance(self.pooling, str) else len(self.pooling))

    def _check_vectors(self) -> None:
        """Checks what makes vectors of rows. Lists become tuples."""
        if isinstance(self.pooling, list | tuple):
            good = all(isinstance(kind, str) and kind in KINDS for kind in self.pooling) and len(self.pooling) > 0
            self._check("pooling", good, f"a list of {', '.join(KINDS)}")
            self._check("pooling", self.head in ("none", "mlm"), f'one kind for the head "{self.head}"')
            object.__setattr__(self, "pooling", tuple(self.pooling))
        else:
            good = isinstance(self.pooling, str) and self.pooling in KINDS
            self._check("pooling", good, f"one of {', '.join(KINDS)}, or a list of them")
        items: Any = self.projections
        good = isinstance(items, list | tuple) and all(isinstance(item, dict) and "features" in item for item in items)
        self._check("projections", good, 'a list of dicts with "features"')
        fields = ("features", "activation", "bias")
        object.__setattr__(self, "projections", tuple(self._own_fields("projections", x, fields) for x in items))
        for item in self.projections:
            size, kind, bias = item["features"], item.get("activation", "none"), item.get("bias", True)
            good = isinstance(size, int) and not isinstance(size, bool) and size >= 1 and isinstance(bias, bool)
            good = good and isinstance(kind, str) and kind in self.choices["activation"]
            self._check("projections", good, "dicts of an int of at least 1, an activation and a bool")
        named = self.prompts
        good = isinstance(named, dict) and all(isinstance(text, str) for pair in named.items() for text in pair)
        self._check("prompts", named is None or good, "None or a dict of texts by name")
        default = self.default_prompt
        good = default is None or (isinstance(default, str) and default in (named or {}))
        self._check("default_prompt", good, "None or the name of a prompt")


@register("encoder")
class TextEncoder(Model):
    """An encoder of text with a head, in training mode at first.

    Batches are lists of lists of token ids; inside, the tokens of a batch lie end to end, without padding.

    Args:
        config: what to build; weights are drawn from the library's generator (`dragoman.manual_seed`).
        compute_dtype: of activations and matrix products in training, as in Model.
    """

    config_class = EncoderConfig
    config: EncoderConfig

    def __init__(self, config: EncoderConfig, compute_dtype: str = "float32") -> None:
        super().__init__(config, compute_dtype)
        self.embedding = blocks.embedding(config, config.vocab_size, token_types=config.token_types)
        self.positions = blocks.positions(config)
        layers = blocks.layers(config, config.num_layers)
        self.encoder = Encoder([TransformerEncoderLayer(**layer) for layer in layers], blocks.final_norm(config))
        self.pooler = Linear(config.d_model, config.d_model) if config.pooler else None
        ends = [each["features"] for each in config.projections]
        pooled = 1 if isinstance(config.pooling, str) else len(config.pooling)
        self.projections = [
            Linear(size, each["features"], bias=each.get("bias", True))
            for size, each in zip([config.d_model * pooled, *ends], config.projections, strict=False)
        ]
        self.head: LabelHead | MaskedLMHead | None = None
        if config.head == "mlm":
            shared = self.embedding.weight if config.tie_embeddings else None
            sizes = (config.vocab_size, config.d_model)
            self.head = MaskedLMHead(*sizes, config.norm_eps, config.head_activation or "gelu", weight=shared)
        elif config.head != "none":
            self.head = LabelHead(config.d_model, len(config.labels), config.dropout)

    def encode(
        self, ids: npt.ArrayLike | Tensor, sequences: Sequences, types: npt.ArrayLike | Tensor | None = None
    ) -> Tensor:
        """The encoder's rows.

        Args:
            ids: (tokens,) integers, text after text.
            sequences: where each text begins.
            types: (tokens,) the type of each token, below the config's `token_types`; all 0 by default.

        Returns:
            (tokens, d_model).
        """
        positions = None if self.positions is None else self.positions(sequences.max_length)
        return self.encoder(self.embedding(ids, sequences, positions, dtype=self.dtype, types=types), sequences)

    def __call__(self, batch: IdBatch, words: Words | None = None, types: IdBatch | None = None) -> Tensor:
        """The head's scores, in the mode that the model stands in.

        Args:
            batch: ids, a list a text.
            words: with the head "tag", how many tokens each word of each text has. One token before the words and
                one after them belong to no word. None for scores of tokens.
            types: the types of tokens, a list a text; None for all 0.

        Returns:
            (texts, labels) with the head "classify", (words or tokens, labels) with "tag", (tokens, vocabulary) with
            "mlm", (tokens, d_model) with "none": on the tape and with dropout in training.

        Raises:
            TypeError, ValueError: an id that is no integer or not in the vocabulary, naming its place; words that do
                not fit the batch, or another head.
        """
        rows = self._rows("TextEncoder", batch, words, types)
        return rows if self.head is None else self.head(rows)

    def logits(
        self,
        batch: IdBatch,
        words: Words | None = None,
        places: npt.ArrayLike | None = None,
        types: IdBatch | None = None,
    ) -> npt.NDArray[Any]:
        """As a call, but without dropout and off the tape whatever the mode; a float32 array.

        Args:
            batch, words, types: as of a call.
            places: (n,) the rows that are wanted, in their order; None for all.
        """
        with self.inference():
            rows = self._rows("logits", batch, words, types)
            if places is not None:
                rows = functional.gather(rows, places)
            return (rows if self.head is None else self.head(rows)).numpy()

    def encode_ids(self, batch: IdBatch, types: IdBatch | None = None) -> npt.NDArray[Any]:
        """The encoder's rows, text after text, whatever the head: float32 (tokens, d_model), without dropout and off
        the tape. Arguments and errors as of a call."""
        with self.inference():
            return self._encode("encode_ids", batch, types)[0].numpy()

    def vectors(self, batch: IdBatch, types: IdBatch | None = None) -> npt.NDArray[Any]:
        """A vector for each text, float32 (texts, vector_size of the config): its rows, pooled, through the
        projections, and of length 1, as the config says (Reimers & Gurevych 2019, arXiv:1908.10084). Errors as of a
        call."""
        with self.inference():
            rows, sequences = self._encode("vectors", batch, types)
            x = pool(rows, sequences, self.config.pooling)
            for projection, fields in zip(self.projections, self.config.projections, strict=True):
                x = projection(x, activation=fields.get("activation", "none"))
            return (unit_length(x) if self.config.normalise else x).numpy()

    def loss(
        self,
        batch: IdBatch,
        targets: Any,
        label_smoothing: float = 0.0,
        num_targets: int | None = None,
        words: Words | None = None,
        types: IdBatch | None = None,
    ) -> Tensor:
        """Mean cross entropy of the targets; with the label_kind "numbers", the mean of squared errors.

        Args:
            batch: ids, a list a text.
            targets: with the head "classify" a label's number for each text, or with the label_kind "several" or
                "numbers" an array (texts, labels) of probabilities or numbers. Else a list a text: with "tag" the
                labels of its words or tokens, with "mlm" the token at each place. -1 is no target.
            label_smoothing: how much of the target distribution is spread over all classes.
            num_targets: what the sum is divided by (of all batches of a step); the batch's own by default.
            words, types: as in a call.

        Returns:
            A scalar.

        Raises:
            TypeError, ValueError: as a call; targets that do not fit the batch.
        """
        if self.head is None:
            raise ValueError('loss: head must be "classify", "tag" or "mlm", got "none", which learns nothing')
        rows = self._rows("loss", batch, words, types)
        if isinstance(self.head, LabelHead) and self.config.label_kind != "one":
            return self.head.loss(rows, targets, self.config.label_kind, num_targets=num_targets)
        if self.config.head == "classify":
            flat = np.asarray(targets)
        else:
            flat = np.fromiter(chain.from_iterable(targets), np.int64)
        if flat.shape != rows.shape[:1]:
            raise ValueError(f"loss: targets must be {rows.shape[0]}, as the rows of the batch, got {flat.size}")
        chosen = np.flatnonzero(flat >= 0)
        if len(chosen) < len(flat) and flat.min() == -1:  # the head reads only the rows with a target
            rows, flat = functional.gather(rows, chosen), flat[chosen]
        return self.head.cross_entropy(rows, flat, label_smoothing=label_smoothing, num_targets=num_targets)

    def attention_weights(self, ids: Sequence[int]) -> dict[str, list[npt.NDArray[Any]]]:
        """Where each token of one text looks: for "encoder", an array (num_heads, queries, keys) for each layer."""
        with record_attention() as record:
            self.logits([ids])
        return {"encoder": [record[layer.self_attention][0].numpy() for layer in self.encoder.layers]}

    def example_batch(self, tokens: int) -> tuple[IdBatch, Any]:
        """Texts of so many tokens, and targets."""
        integer("memory_plan", "tokens", tokens, minimum=1)
        batch = even_batch(tokens, -(-tokens // LENGTH))
        if self.config.head == "classify" and self.config.label_kind != "one":
            return batch, np.zeros((len(batch), len(self.config.labels)), np.float32)
        return batch, [0] * len(batch) if self.config.head == "classify" else batch

    def _encode(self, op: str, batch: IdBatch, types: IdBatch | None) -> tuple[Tensor, Sequences]:
        """The encoder's rows of a batch, and their Sequences."""
        ids, sequences = pack_ids(op, "batch", batch, self.config.vocab_size)
        if types is None:
            return self.encode(ids, sequences), sequences
        if self.config.token_types is None:
            raise ValueError(f"{op}: types must be None without token_types in the config, got a list")
        kinds, counted = pack_ids(op, "types", types, self.config.token_types)
        if counted.lengths != sequences.lengths:
            raise ValueError(f"{op}: types must be lists of {sequences.lengths} types, got {counted.lengths}")
        return self.encode(ids, sequences, kinds), sequences

    def _rows(self, op: str, batch: IdBatch, words: Words | None, types: IdBatch | None) -> Tensor:
        """The rows that the head reads."""
        rows, sequences = self._encode(op, batch, types)
        if words is not None:
            return self._word_rows(op, rows, sequences, words)
        if self.config.head != "classify":
            return rows
        pooled = pool(rows, sequences, self.config.pooling)
        return pooled if self.pooler is None else self.pooler(pooled, activation=self.config.head_activation or "tanh")

    def _word_rows(self, op: str, rows: Tensor, sequences: Sequences, words: Words) -> Tensor:
        """One row for each word."""
        if self.config.head != "tag":
            raise ValueError(f'{op}: words must be None but for the head "tag", got them for "{self.config.head}"')
        sums = [sum(counts) + 2 for counts in words]
        if sums != sequences.lengths:
            raise ValueError(f"{op}: words must have {sequences.lengths} tokens with one on either side, got {sums}")
        parts = Sequences([count for counts in words for count in (1, *counts, 1)])
        edges = np.cumsum([0, *(len(counts) + 2 for counts in words)])
        inside = np.ones(parts.offsets.shape[0] - 1, bool)
        inside[edges[:-1]] = inside[edges[1:] - 1] = False
        return functional.gather(pool(rows, parts, self.config.pooling), np.flatnonzero(inside))
