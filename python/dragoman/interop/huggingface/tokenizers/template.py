"""The post-processor of a tokenizer.json: the special ids around a text."""

from __future__ import annotations

from typing import Any

from dragoman.arguments import shown
from dragoman.data.frame import Frame

_DEPTH = 4  # sequences inside each other


def frame_of(value: Any, depth: int = 0) -> Frame:
    """The frame of one text that a post-processor gives. ValueError for one of an unknown form."""
    if value is None:
        return Frame()
    where = "post_processor"
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, got {shown(value)}")
    match value.get("type"):
        case "ByteLevel":
            return Frame()
        case "BertProcessing" | "RobertaProcessing":
            return Frame((_id(where, value, "cls"),), (_id(where, value, "sep"),))
        case "TemplateProcessing":
            return _of_template(value)
        case "Sequence":
            steps = value.get("processors")
            if not isinstance(steps, list) or depth == _DEPTH or len(steps) > 64:
                raise ValueError(f"{where}.processors must be a list, got {shown(steps)}")
            frame = Frame()
            for step in steps:
                inner = frame_of(step, depth + 1)
                frame = Frame((*inner.prefix, *frame.prefix), (*frame.suffix, *inner.suffix))
            return frame
    kinds = "ByteLevel, BertProcessing, RobertaProcessing, TemplateProcessing, Sequence"
    raise ValueError(f"{where}.type must be one of {kinds}, got {shown(value.get('type'))}")


def _id(where: str, value: dict[str, Any], name: str) -> int:
    """The id of BERT's [token, id]."""
    pair = value.get(name)
    if not isinstance(pair, list) or len(pair) != 2 or not _is_id(pair[1]):
        raise ValueError(f"{where}.{name} must be a token and its id, got {shown(pair)}")
    return int(pair[1])


def _of_template(value: dict[str, Any]) -> Frame:
    """A list of special tokens, one text, and special tokens."""
    items, special = value.get("single"), value.get("special_tokens")
    if not isinstance(items, list) or not isinstance(special, dict):
        raise ValueError("post_processor must have a list, single, and an object, special_tokens")
    sides: list[list[int]] = [[]]
    for i, item in enumerate(items):
        where = f"post_processor.single[{i}]"
        if not isinstance(item, dict) or len(item) != 1:
            raise ValueError(f"{where} must be an object of one name, got {shown(item)}")
        ((kind, fields),) = item.items()
        name = fields.get("id") if isinstance(fields, dict) else None
        if kind == "Sequence":
            sides.append([])
        elif kind == "SpecialToken" and isinstance(name, str) and name in special:
            entry = special[name]
            ids = entry.get("ids") if isinstance(entry, dict) else None
            if not isinstance(ids, list) or not all(_is_id(id) for id in ids):
                raise ValueError(f"post_processor.special_tokens: {shown(name)} must have ids, got {shown(ids)}")
            sides[-1] += ids
        else:
            raise ValueError(f"{where} must be a Sequence or one of special_tokens, got {shown(item)}")
    if len(sides) != 2:
        raise ValueError(f"post_processor.single must hold one Sequence, got {len(sides) - 1}")
    return Frame(tuple(sides[0]), tuple(sides[1]))


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
