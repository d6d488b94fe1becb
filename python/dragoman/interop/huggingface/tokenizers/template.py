"""The post-processor of a tokenizer.json: the special ids around a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dragoman.arguments import shown
from dragoman.data.frame import Frame, PairFrame

_DEPTH = 4  # sequences inside each other


def frame_of(value: Any) -> Frame:
    """The frame of one text that a post-processor gives. ValueError for one of an unknown form."""
    frame = Frame()
    for step in _steps(value):
        if step["type"] in ("BertProcessing", "RobertaProcessing"):
            inner = Frame((_id(step, "cls"),), (_id(step, "sep"),))
        else:
            parts, _ = _of_template(step, "single", 2)
            inner = Frame(*parts)
        frame = Frame((*inner.prefix, *frame.prefix), (*frame.suffix, *inner.suffix))
    return frame


def pair_frame_of(value: Any) -> PairFrame | None:
    """The frame of two texts; None for a post-processor that has none. ValueError as there."""
    steps = list(_steps(value))
    if len(steps) != 1:
        return None
    (step,) = steps
    if step["type"] == "TemplateProcessing":
        (prefix, middle, suffix), types = _of_template(step, "pair", 3)
        return PairFrame(prefix, middle, suffix, types[1])
    return pair_frame(step["type"] == "BertProcessing", _id(step, "cls"), _id(step, "sep"))


def pair_frame(bert: bool, begin: int, end: int) -> PairFrame:
    """BERT's [CLS] A [SEP] B [SEP], or RoBERTa's <s> A </s></s> B </s>."""
    return PairFrame((begin,), (end,), (end,), 1) if bert else PairFrame((begin,), (end, end), (end,))


def _steps(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The parts of a post-processor that put ids around a text."""
    if value is None:
        return
    if not isinstance(value, dict):
        raise ValueError(f"post_processor must be an object, got {shown(value)}")
    match value.get("type"):
        case "ByteLevel":
            return
        case "BertProcessing" | "RobertaProcessing" | "TemplateProcessing":
            yield value
        case "Sequence":
            steps = value.get("processors")
            if not isinstance(steps, list) or depth == _DEPTH or len(steps) > 64:
                raise ValueError(f"post_processor.processors must be a list, got {shown(steps)}")
            for step in steps:
                yield from _steps(step, depth + 1)
        case kind:
            kinds = "ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing, Sequence"
            raise ValueError(f"post_processor.type must be one of {kinds}, got {shown(kind)}")


def _id(value: dict[str, Any], name: str) -> int:
    """The id of BERT's [token, id]."""
    pair = value.get(name)
    if not isinstance(pair, list) or len(pair) != 2 or not _is_id(pair[1]):
        raise ValueError(f"post_processor.{name} must be a token and its id, got {shown(pair)}")
    return int(pair[1])


def _of_template(value: dict[str, Any], name: str, count: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """The special ids before, between and after the texts of a template, `count` groups; and the types of the texts."""
    items, special = value.get(name), value.get("special_tokens")
    if not isinstance(items, list) or not isinstance(special, dict):
        raise ValueError(f"post_processor must have a list, {name}, and an object, special_tokens")
    groups: list[list[int]] = [[]]
    types: list[int] = []
    for i, item in enumerate(items):
        where = f"post_processor.{name}[{i}]"
        if not isinstance(item, dict) or len(item) != 1:
            raise ValueError(f"{where} must be an object of one name, got {shown(item)}")
        ((kind, fields),) = item.items()
        fields = fields if isinstance(fields, dict) else {}
        token = fields.get("id")
        if kind == "Sequence":
            if not _is_id(fields.get("type_id", 0)):
                raise ValueError(f"{where}.type_id must be an int, got {shown(fields.get('type_id'))}")
            types.append(fields.get("type_id", 0))
            groups.append([])
        elif kind == "SpecialToken" and isinstance(token, str) and token in special:
            entry = special[token]
            ids = entry.get("ids") if isinstance(entry, dict) else None
            if not isinstance(ids, list) or not all(_is_id(id) for id in ids):
                raise ValueError(f"post_processor.special_tokens: {shown(token)} must have ids, got {shown(ids)}")
            groups[-1] += ids
        else:
            raise ValueError(f"{where} must be a Sequence or one of special_tokens, got {shown(item)}")
    if len(groups) != count:
        raise ValueError(f"post_processor.{name} must hold {count - 1} Sequences, got {len(groups) - 1}")
    return [tuple(group) for group in groups], types


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
