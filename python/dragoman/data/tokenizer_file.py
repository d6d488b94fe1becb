"""Reads a tokenizer.json that others may have written, before the `tokenizers` library sees it.

The library trusts such a file: a damaged one can end the process, fill the memory or never return. So the reader here
is closed: it knows every component with its fields, and bounds every size. What it returns is built from checked parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dragoman.arguments import shown
from dragoman.data.character_map import check_character_map, growth_of_character_map
from dragoman.json_file import parse_object

MAXIMUM = 1 << 26  # bytes of the file

_TOKENS = 1 << 20  # of a vocabulary
_VOCABULARY = 1 << 23  # characters of all its tokens
_TOKEN = 1 << 10  # characters of one token
_STEPS = 64  # components of a sequence, in all
_DEPTH = 4  # sequences inside each other
_TEXT = 64  # characters of a prefix, a suffix or a replacement
_GROWTH = 64  # how many times as long a text may become

PUNCTUATION = "\u2581?[^\\P{P}-]+"  # what the tokenizers that are trained here split off: all but the hyphen

# Expressions whose time is proportional to the text. Others are refused: some take a time that is exponential.
_EXPRESSIONS = (
    " {2,}",
    "\\s+",
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "\\n",
    PUNCTUATION,
)

Check = Callable[[str, Any], Any]  # where the value stands, the value; raises ValueError
Fields = Mapping[str, Check]


def parse_tokenizer(content: bytes, origin: str) -> dict[str, Any]:
    """The fields of a tokenizer.json, checked.

    Padding, truncation and the post-processor are left out: ids are made without special tokens and at full length.

    Raises:
        ValueError: naming `origin` and what is wrong.
    """
    return checked_tokenizer(parse_object(content, origin), origin)


def checked_tokenizer(values: dict[str, Any], origin: str, *, gaps: bool = False) -> dict[str, Any]:
    """As `parse_tokenizer`, of an object. With `gaps`, some ids below the highest may have no token."""
    try:
        return _tokenizer(values, gaps)
    except ValueError as error:
        raise ValueError(f"{origin}: not a tokenizer ({error})") from None


def _tokenizer(values: dict[str, Any], gaps: bool) -> dict[str, Any]:
    for name in values:
        _require(name in _TOP, name, f"one of {', '.join(_TOP)}", name)
    _require(values.get("version") == "1.0", "version", "'1.0'", values.get("version"))
    model = _component("model", values.get("model"), _MODELS)
    tokens = _MODEL_CHECKS[model["type"]](model)
    added = _added_tokens(values.get("added_tokens", []), tokens)
    count, ids = len(tokens | added), sorted((tokens | added).values())
    if gaps and len(set(ids)) < count:
        raise ValueError(f"the ids of {count} tokens must be different, got one twice")
    if not gaps and ids != list(range(count)):
        raise ValueError(f"the ids of {count} tokens must be 0 to {count - 1}, each once")
    parts = {
        name: _steps(name, values.get(name), table)
        for name, table in (("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS), ("decoder", _DECODERS))
    }
    for name in parts:
        growth = _growth(parts[name])
        _require(growth <= _GROWTH, name, f"steps that make a text at most {_GROWTH} times as long", f"{growth:g}")
    nothing = {"truncation": None, "padding": None, "post_processor": None}
    return {"version": "1.0", **nothing, "added_tokens": values.get("added_tokens", []), **parts, "model": model}


def _require(good: bool, where: str, expected: str, got: object) -> None:
    if not good:
        raise ValueError(f"{shown(where) if len(where) > 80 else where} must be {expected}, got {shown(got)}")


def _component(where: str, value: Any, table: Mapping[str, Fields]) -> dict[str, Any]:
    """An object whose "type" is in the table, with fields that pass their checks; what is missing is left out."""
    _require(isinstance(value, dict), where, "an object", value)
    kind = value.get("type")
    _require(isinstance(kind, str) and kind in table, f"{where}.type", f"one of {', '.join(table)}", kind)
    fields = table[kind]
    for name in value:
        _require(name == "type" or name in fields, f"{where}.{name}", f"one of {', '.join(fields) or 'none'}", name)
    return {
        "type": kind,
        **{name: check(f"{where}.{name}", value[name]) for name, check in fields.items() if name in value},
    }


def _steps(where: str, value: Any, table: Mapping[str, Fields]) -> dict[str, Any] | None:
    """A normalizer, pre-tokenizer or decoder: None, a component, or a sequence of them."""
    left = [_STEPS]

    def read(where: str, value: Any, depth: int) -> dict[str, Any]:
        left[0] -= 1
        _require(left[0] >= 0, where, f"at most {_STEPS} components", "more")
        if not isinstance(value, dict) or value.get("type") != "Sequence":
            return _component(where, value, table)
        _require(depth < _DEPTH, where, f"at most {_DEPTH} sequences inside each other", "more")
        key = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}[top]
        _require(set(value) == {"type", key}, where, f"an object of type and {key}", sorted(value))
        _require(isinstance(value[key], list), f"{where}.{key}", "a list", value[key])
        steps = [read(f"{where}.{key}[{i}]", item, depth + 1) for i, item in enumerate(value[key])]
        return {"type": "Sequence", key: steps}

    top = where
    return None if value is None else read(where, value, 0)


def _growth(value: Any) -> float:
    """How many times as long a text can become."""
    if value is None:
        return 1.0
    match value["type"]:
        case "Sequence":
            (steps,) = (steps for name, steps in value.items() if name != "type")
            return math.prod(map(_growth, steps))
        case "Replace":
            return max(1.0, len(value.get("content", "")) / len(value.get("pattern", {}).get("String", " ")))
        case "Precompiled":
            return growth_of_character_map(value.get("precompiled_charsmap", ""))
        case "ByteLevel":
            return 4.0  # a character for each byte
        case "Metaspace":
            return 2.0
    return 1.0


# Checks of single values.


def _flag(where: str, value: Any) -> bool:
    _require(isinstance(value, bool), where, "true or false", value)
    return bool(value)


def _optional(check: Check) -> Check:
    return lambda where, value: None if value is None else check(where, value)


def _text(minimum: int, maximum: int = _TEXT) -> Check:
    def check(where: str, value: Any) -> str:
        good = isinstance(value, str) and minimum <= len(value) <= maximum
        _require(good, where, f"a text of {minimum} to {maximum} characters", value)
        return str(value)

    return check


def _whole(minimum: int, maximum: int) -> Check:
    def check(where: str, value: Any) -> int:
        good = isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum
        _require(good, where, f"an int in [{minimum}, {maximum}]", value)
        return int(value)

    return check


def _one_of(*choices: str) -> Check:
    def check(where: str, value: Any) -> str:
        _require(isinstance(value, str) and value in choices, where, f"one of {', '.join(choices)}", value)
        return str(value)

    return check


def _rate(where: str, value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    _require(good, where, "a number in [0, 1)", value)
    return float(value)


def _pattern(where: str, value: Any) -> dict[str, str]:
    _require(isinstance(value, dict) and len(value) == 1, where, "an object with String or Regex", value)
    ((kind, text),) = value.items()
    if kind == "Regex":
        return {kind: _one_of(*_EXPRESSIONS)(where, text)}
    _require(kind == "String", where, "an object with String or Regex", kind)
    return {kind: _text(1)(where, text)}


def _vocabulary(where: str, value: Any) -> dict[str, int]:
    _require(isinstance(value, dict) and len(value) <= _TOKENS, where, f"an object of at most {_TOKENS} tokens", value)
    _check_tokens(where, list(value))
    for token, id in value.items():
        _require(type(id) is int and 0 <= id < _TOKENS, f"{where}[{token!r}]", f"an id in [0, {_TOKENS})", id)
    return dict(value)


def _pieces(where: str, value: Any) -> list[list[Any]]:
    _require(isinstance(value, list) and len(value) <= _TOKENS, where, f"a list of at most {_TOKENS} tokens", value)
    for i, piece in enumerate(value):
        good = isinstance(piece, list) and len(piece) == 2 and type(piece[1]) in (int, float)
        _require(good and abs(piece[1]) < 1e30, f"{where}[{i}]", "a token and its log probability", piece)
    _check_tokens(where, [piece[0] for piece in value])
    return [[token, float(score)] for token, score in value]


def _check_tokens(where: str, tokens: Sequence[Any]) -> None:
    """ValueError unless these are different tokens, none empty, and not too long."""
    for i, token in enumerate(tokens):
        good = isinstance(token, str) and 1 <= len(token) <= _TOKEN
        _require(good, f"{where}[{i}]", f"a token of 1 to {_TOKEN} characters", token)
    _require(len(set(tokens)) == len(tokens), where, "different tokens", "some twice")
    total = sum(map(len, tokens))
    _require(total <= _VOCABULARY, where, f"at most {_VOCABULARY} characters", total)


def _merges(where: str, value: Any) -> list[list[str]]:
    _require(isinstance(value, list) and len(value) <= _TOKENS, where, f"a list of at most {_TOKENS} merges", value)
    merges = []
    for i, merge in enumerate(value):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        good = isinstance(pair, list) and len(pair) == 2 and all(isinstance(token, str) for token in pair)
        _require(good, f"{where}[{i}]", "two tokens", merge)
        merges.append(pair)
    return merges


# Checks of a whole model; each returns the ids of its tokens.


def _check_bpe(model: dict[str, Any]) -> dict[str, int]:
    vocabulary: dict[str, int] = _given(model, "vocab")
    prefix = model.get("continuing_subword_prefix") or ""
    for left, right in _given(model, "merges"):
        if not (left in vocabulary and right.startswith(prefix) and right in vocabulary):
            raise ValueError(f"model.merges: {shown([left, right])} must be tokens")
        if left + right.removeprefix(prefix) not in vocabulary:
            raise ValueError(f"model.merges: {shown([left, right])} must form a token")
    return _with_unknown(model, vocabulary, required=False)


def _check_words(model: dict[str, Any]) -> dict[str, int]:
    return _with_unknown(model, _given(model, "vocab"), required=True)


def _with_unknown(model: dict[str, Any], vocabulary: dict[str, int], *, required: bool) -> dict[str, int]:
    token = model.get("unk_token")
    _require((token is None and not required) or token in vocabulary, "model.unk_token", "in the vocabulary", token)
    return vocabulary


def _check_unigram(model: dict[str, Any]) -> dict[str, int]:
    pieces = _given(model, "vocab")
    id = model.get("unk_id")
    _require(id is not None and id < len(pieces), "model.unk_id", f"an id in [0, {len(pieces)})", id)
    return {token: i for i, (token, _) in enumerate(pieces)}


def _given(model: dict[str, Any], name: str) -> Any:
    if name not in model:
        raise ValueError(f"model.{name} must be given, got none")
    return model[name]


def _added_tokens(value: Any, tokens: Mapping[str, int]) -> dict[str, int]:
    """The ids of added tokens. They may stand in the model's vocabulary, too, under the same id."""
    _require(isinstance(value, list) and len(value) <= _TOKENS, "added_tokens", f"a list of at most {_TOKENS}", value)
    added: dict[str, int] = {}
    for i, item in enumerate(value):
        where = f"added_tokens[{i}]"
        _require(
            isinstance(item, dict) and set(item) == set(_ADDED_TOKEN),
            where,
            f"an object of {', '.join(_ADDED_TOKEN)}",
            item,
        )
        for name, check in _ADDED_TOKEN.items():
            check(f"{where}.{name}", item[name])
        content, id = item["content"], item["id"]
        _require(content not in added, f"{where}.content", "different from those before", content)
        _require(tokens.get(content, id) == id, f"{where}.id", f"{tokens.get(content)}, as in the model", id)
        added[content] = id
    _require(sum(map(len, added)) <= _VOCABULARY, "added_tokens", f"at most {_VOCABULARY} characters", "more")
    return added


_TOP = (
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
)  # fmt: skip

_ADDED_TOKEN: Fields = {
    "id": _whole(0, _TOKENS),
    "content": _text(1, _TOKEN),
    **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), _flag),
}

_BYTE_LEVEL: Fields = dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), _flag)

_METASPACE: Fields = {
    "replacement": _text(1, 1),
    "str_rep": _text(1, 1),  # of older versions
    "add_prefix_space": _flag,  # of older versions
    "prepend_scheme": _one_of("first", "never", "always"),
    "split": _flag,
}

_REPLACE: Fields = {"pattern": _pattern, "content": _text(0)}

_BEHAVIOR = _one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")

_NORMALIZERS: Mapping[str, Fields] = {
    **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Lowercase", "Nmt", "ByteLevel")},
    "BertNormalizer": {
        **dict.fromkeys(("clean_text", "handle_chinese_chars", "lowercase"), _flag),
        "strip_accents": _optional(_flag),
    },
    "Strip": dict.fromkeys(("strip_left", "strip_right"), _flag),
    "Replace": _REPLACE,
    "Prepend": {"prepend": _text(0)},
    "Precompiled": {"precompiled_charsmap": check_character_map},
}

_PRE_TOKENIZERS: Mapping[str, Fields] = {
    **{name: {} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")},
    "ByteLevel": _BYTE_LEVEL,
    "CharDelimiterSplit": {"delimiter": _text(1, 1)},
    "Metaspace": _METASPACE,
    "Split": {"pattern": _pattern, "behavior": _BEHAVIOR, "invert": _flag},
    "Punctuation": {"behavior": _BEHAVIOR},
    "Digits": {"individual_digits": _flag},
    "FixedLength": {"length": _whole(1, 1 << 20)},
}

_DECODERS: Mapping[str, Fields] = {
    **{name: {} for name in ("Fuse", "ByteFallback")},
    "BPEDecoder": {"suffix": _text(1)},
    "ByteLevel": _BYTE_LEVEL,
    "WordPiece": {"prefix": _text(0), "cleanup": _flag},
    "Metaspace": _METASPACE,
    "CTC": {"pad_token": _text(1), "word_delimiter_token": _text(1), "cleanup": _flag},
    "Replace": _REPLACE,
    # The library fails where it strips at the end what is shorter.
    "Strip": {"content": _text(1, 1), "start": _whole(0, 1 << 20), "stop": _whole(0, 0)},
}

_UNKNOWN = _text(1, _TOKEN)

_MODELS: Mapping[str, Fields] = {
    "BPE": {
        "dropout": _optional(_rate),
        "unk_token": _optional(_UNKNOWN),
        **dict.fromkeys(("continuing_subword_prefix", "end_of_word_suffix"), _optional(_text(0))),
        **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), _flag),
        "vocab": _vocabulary,
        "merges": _merges,
    },
    "Unigram": {"unk_id": _whole(0, _TOKENS), "vocab": _pieces, "byte_fallback": _flag},
    "WordPiece": {
        "unk_token": _UNKNOWN,
        "continuing_subword_prefix": _text(0),
        "max_input_chars_per_word": _whole(0, 1 << 20),
        "vocab": _vocabulary,
    },
    "WordLevel": {"vocab": _vocabulary, "unk_token": _UNKNOWN},
}

_MODEL_CHECKS: Mapping[str, Callable[[dict[str, Any]], dict[str, int]]] = {
    "BPE": _check_bpe,
    "Unigram": _check_unigram,
    "WordPiece": _check_words,
    "WordLevel": _check_words,
}
