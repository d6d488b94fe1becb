"""What BERT and its kin share: heads, labels, the tie of a masked LM's head, and their config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from dragoman.interop.huggingface.family import ACTIVATION_NAMES, ACTIVATIONS
from dragoman.interop.huggingface.fields import Fields
from dragoman.interop.huggingface.weights import Tensors
from dragoman.models import EncoderConfig, VisionConfig

Head = Literal["none", "classify", "tag", "mlm"]

# Heads by the end of the name of their class.
ARCHITECTURES: dict[str, Head] = {
    "ForMaskedLM": "mlm",
    "ForPreTraining": "mlm",  # with BERT's prediction of the next sentence, which is left out
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tag",
    "Model": "none",
}
_ENDS = {head: end for end, head in reversed(ARCHITECTURES.items())}

LabelKind = Literal["one", "several", "numbers"]

_LABEL_KINDS: dict[str, LabelKind] = {
    "single_label_classification": "one",
    "multi_label_classification": "several",
    "regression": "numbers",
}
_PROBLEMS = {ours: theirs for theirs, ours in _LABEL_KINDS.items()}

# Old spellings of norms, and buffers that some files hold.
OLD_NAMES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
BUFFERS = (r".*embeddings\.position_ids", r".*embeddings\.token_type_ids")


def head_of(fields: Fields, tensors: Tensors, masked: str, pooled: str) -> Head:
    """The head of a checkpoint, by "architectures", and by what is in the files where that is not true.

    Args:
        fields: of config.json.
        tensors: of the files; none when a model is saved.
        masked: a tensor that a masked LM's head has.
        pooled: a tensor that only the head for labels of texts has, beside "classifier.weight".
    """
    head = _named_head(fields)
    if not tensors:
        return head or "none"
    if head in (None, "none") and masked in tensors:
        return "mlm"
    if head == "mlm" and masked not in tensors:
        return "none"  # sentence encoders keep the name of what they were made from
    if head is None:
        found = pooled in tensors, "classifier.weight" in tensors
        return "classify" if all(found) or "classifier.out_proj.weight" in tensors else "tag" if found[1] else "none"
    return head


def _named_head(fields: Fields) -> Head | None:
    names: Any = fields.values.get("architectures")
    if names is None:
        return None
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        match = re.fullmatch(r"\w*?(For[A-Z]\w*|LMHeadModel|Model)", names[0])
        if match and match[1] in ARCHITECTURES:
            return ARCHITECTURES[match[1]]
    raise fields.error("architectures", f"a list of one name that ends in {', '.join(ARCHITECTURES)}")


def is_tied(fields: Fields, tensors: Tensors, word: str, output: str) -> bool:
    """Whether a masked LM's head has the embeddings as weights: what is in the files decides."""
    return tensors.tied(word, output) if tensors else fields.flag("tie_word_embeddings", True)


def bias_place(tensors: Tensors, bias: str, product: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Where a masked LM's head has its bias, as a rule of names, and under which name else it is saved.

    Files hold it once or twice. Those of an untied head of transformers 5 may hold two: the product's is in use.

    Args:
        tensors: of the files.
        bias: the name of the bias of the head.
        product: the name that it has beside the weights of the product.
    """
    name, copy = (product, bias) if product in tensors else (bias, product)
    return (r"^head\.output\.bias", name), (copy, name)


def label_fields(fields: Fields, head: str) -> dict[str, Any]:
    """The fields of a config of ours that say what is labelled."""
    if head not in ("classify", "tag"):
        return {}
    labels = read_labels(fields)
    if head == "tag":
        return {"labels": labels, "pooling": "first"}
    return {"labels": labels, "label_kind": label_kind(fields, labels), "pooling": "first"}


def has_pooler(head: Head, tensors: Tensors, weight: str) -> bool:
    """Whether a config of ours has a pooler: a head for labels of texts has one, and a body may keep one."""
    return head == "classify" or (head == "none" and weight in tensors)


def read_labels(fields: Fields) -> tuple[str, ...]:
    """The names of labels in the order of their numbers, from id2label or num_labels."""
    named = fields.section("id2label")
    if named is None:
        return tuple(f"LABEL_{i}" for i in range(fields.size("num_labels", 2)))
    expected = 'an object of texts by "0", "1" and so on'
    found: Mapping[str, Any] = named.values
    if not found or any(not isinstance(found.get(str(i)), str) for i in range(len(found))):
        raise fields.error("id2label", expected)
    return tuple(found[str(i)] for i in range(len(found)))


def label_kind(fields: Fields, labels: tuple[str, ...]) -> LabelKind:
    """What the scores of labels are. One label alone is a probability, as rerankers have it."""
    default: LabelKind = "several" if len(labels) == 1 else "one"
    return fields.choice("problem_type", _LABEL_KINDS, default)


def written_labels(labels: tuple[str, ...], kind: LabelKind) -> dict[str, Any]:
    """The fields of theirs that say what is labelled."""
    named = {str(i): label for i, label in enumerate(labels)}
    return {
        "id2label": named,
        "label2id": {label: int(i) for i, label in named.items()},
        "problem_type": _PROBLEMS[kind],
    }


def bert_fields(fields: Fields) -> dict[str, Any]:
    """The fields of a config of ours from those that BERT, RoBERTa and MPNet share."""
    fields.only("position_embedding_type", "absolute")
    fields.only("is_decoder", False)
    fields.only("add_cross_attention", False)
    return {"vocab_size": fields.size("vocab_size", 30522), **layer_fields(fields, dropout=0.1), **EMBEDDED}


def layer_fields(fields: Fields, dropout: float) -> dict[str, Any]:
    """The fields of a config of ours about layers, which ViT names as BERT does. `dropout`: both rates by default."""
    rate = fields.rate("hidden_dropout_prob", dropout)
    return {
        "d_model": fields.size("hidden_size", 768),
        "num_layers": fields.size("num_hidden_layers", 12),
        "num_heads": fields.size("num_attention_heads", 12),
        "d_ff": fields.size("intermediate_size", 3072),
        "activation": fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        "norm_eps": fields.number("layer_norm_eps", 1e-12),
        "dropout": rate,
        "embedding_dropout": rate,
        "attention_dropout": fields.rate("attention_probs_dropout_prob", dropout),
    }


EMBEDDED: dict[str, Any] = {"positions": "learned", "embedding_norm": True, "scale_embeddings": False}


def id_fields(fields: Fields, pad_id: int) -> dict[str, Any]:
    """The special ids of a config of ours. A model that writes no text needs no end: any token does."""
    ends = fields.ids("eos_token_id") or (pad_id,)
    return {"pad_id": pad_id, "bos_id": fields.id("bos_token_id"), "eos_id": ends[0], "unk_id": None}


def row_fields(fields: Fields, offset: int, default: int) -> dict[str, Any]:
    """The fields of a config of ours about the learned table of positions."""
    rows = fields.size("max_position_embeddings", default)
    if rows <= offset:
        raise fields.error("max_position_embeddings", f"above {offset}, the rows that no position has")
    return {"max_length": rows - offset, "position_offset": offset}


def common_fields(model_type: str, prefix: str, config: EncoderConfig) -> dict[str, Any]:
    """The fields of theirs that all of the kin share.

    Args:
        model_type: of theirs.
        prefix: of the names of their classes.
        config: of ours.
    """
    values: dict[str, Any] = {
        "model_type": model_type,
        "architectures": [prefix + _ENDS[config.head]],
        "vocab_size": config.vocab_size,
        "max_position_embeddings": (config.position_rows or config.max_length) + config.position_offset,
        "pad_token_id": config.pad_id,
        "bos_token_id": config.bos_id,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.eos_id != (config.pad_id or 0):
        values["eos_token_id"] = config.eos_id
    if config.labels:
        values |= written_labels(config.labels, config.label_kind)
    return values


def written_bert_fields(model_type: str, prefix: str, config: EncoderConfig) -> dict[str, Any]:
    """The fields of theirs that BERT, RoBERTa and MPNet share."""
    return {**common_fields(model_type, prefix, config), **written_layer_fields(config)}


def written_layer_fields(config: EncoderConfig | VisionConfig) -> dict[str, Any]:
    """The fields of theirs about layers, as of `layer_fields`."""
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
    }
