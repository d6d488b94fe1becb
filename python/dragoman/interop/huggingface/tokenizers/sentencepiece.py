"""Reads a SentencePiece model, a protobuf, and builds a tokenizer of the `tokenizers` library from it.

Of `sentencepiece_model.proto`: field 1 holds the pieces, 2 the options of the trainer, 3 the normalizer.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.data.character_map import check_character_map
from dragoman.data.vocabulary import SPACE, tokenizers_library

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)  # kinds of pieces

HIDDEN = "\uffff"  # begins the names of tokens that a text must never find; it is no character
_MAXIMUM = 1 << 20  # pieces
_LONGEST = 1 << 10  # characters of a piece

Piece = tuple[str, float]  # text, score


@dataclass(frozen=True)
class SentencePieceModel:
    """What a SentencePiece file says.

    Attributes:
        pieces, scores, kinds: of each token, by its id in the file.
        is_bpe: merges of pairs instead of a unigram language model.
        unk_id: of what has no piece.
        byte_fallback: characters without a piece become bytes.
        character_map: of the normalizer, or nothing.
        begins_with_space: a space is put before a text.
        trims_spaces: spaces at either end of a text go, and several become one.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    is_bpe: bool
    unk_id: int
    byte_fallback: bool
    character_map: bytes
    begins_with_space: bool
    trims_spaces: bool

    def scored(self) -> list[Piece]:
        """The pieces with their scores; those that a text must never find are hidden."""
        may = (NORMAL, USER, BYTE)
        return [
            (piece, score) if kind in may else hidden(piece)
            for piece, score, kind in zip(self.pieces, self.scores, self.kinds, strict=True)
        ]


def hidden(name: str) -> Piece:
    """A token that a text never finds."""
    return HIDDEN + name, 0.0


def read_sentencepiece(content: bytes, origin: str) -> SentencePieceModel:
    """The model in the content of a file. ValueError, naming `origin`, for a damaged one and for an unknown kind."""
    try:
        return _read(content)
    except (ValueError, IndexError, struct.error) as error:
        raise ValueError(f"{origin}: must be a SentencePiece model ({error})") from None


def _read(content: bytes) -> SentencePieceModel:
    pieces: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(content):
        if number == 1:
            fields = dict(_fields(_bytes(value)))
            pieces.append(_bytes(fields.get(1, b"")).decode())
            scores.append(float(struct.unpack("<f", _bytes(fields.get(2, bytes(4))))[0]))
            kinds.append(_number(fields.get(3, NORMAL)))
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    _check_pieces(pieces, scores, kinds)
    kind = _number(trainer.get(3, 1))
    if kind not in (1, 2):
        raise ValueError(f"model_type must be 1, unigram, or 2, bpe, got {kind}")
    if trainer.get(24, 0):
        raise ValueError("treat_whitespace_as_suffix must be false, got true")
    if UNKNOWN not in kinds:
        raise ValueError("one piece must be of the kind unknown, got none")
    character_map = _bytes(normalizer.get(2, b""))
    if character_map:
        check_character_map("precompiled_charsmap", b64encode(character_map).decode())
    return SentencePieceModel(
        pieces=tuple(pieces),
        scores=tuple(scores),
        kinds=tuple(kinds),
        is_bpe=kind == 2,
        unk_id=kinds.index(UNKNOWN),
        byte_fallback=bool(trainer.get(35, 0)),
        character_map=character_map,
        begins_with_space=bool(normalizer.get(3, 1)),
        trims_spaces=bool(normalizer.get(4, 1)),
    )


def _check_pieces(pieces: Sequence[str], scores: Sequence[float], kinds: Sequence[int]) -> None:
    if not 1 <= len(pieces) <= _MAXIMUM:
        raise ValueError(f"it must hold 1 to {_MAXIMUM:,} pieces, got {len(pieces):,}")
    if len(set(pieces)) != len(pieces):
        raise ValueError("pieces must be different, got one twice")
    for i, (piece, score, kind) in enumerate(zip(pieces, scores, kinds, strict=True)):
        if not 1 <= len(piece) <= _LONGEST:
            raise ValueError(f"pieces[{i}] must have 1 to {_LONGEST} characters, got {len(piece)}")
        if not abs(score) < 1e30:
            raise ValueError(f"the score of pieces[{i}] must be finite, got {score}")
        if not NORMAL <= kind <= BYTE:
            raise ValueError(f"the kind of pieces[{i}] must be one of 1 to 6, got {kind}")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: numbers, and values as they are on the wire."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        match key & 7:
            case 0:
                value, place = _varint(data, place)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, place = _varint(data, place)
            case 5:
                size = 4
            case wire:
                raise ValueError(f"unknown wire type {wire} at byte {place}")
        if size > len(data) - place:
            raise ValueError(f"a field of {size:,} bytes reaches beyond the end")
        yield key >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """An int of at most 64 bits, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it is cut")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError(f"an int of more than 64 bits at byte {place}")


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field must hold bytes, got an int")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("a field must hold an int, got bytes")
    return value


def sentencepiece_backend(model: SentencePieceModel, pieces: Sequence[Piece], unk_id: int) -> Any:
    """A `tokenizers.Tokenizer` with these pieces, whose ids are their places, and the model's rules.

    Args:
        pieces: those of the model, with others before and after them.
        unk_id: the place of the unknown token.
    """
    library = tokenizers_library()
    if model.is_bpe:
        vocabulary = {piece: id for id, (piece, _) in enumerate(pieces)}
        kind = library.models.BPE(
            vocabulary,
            _merges(pieces, vocabulary),
            unk_token=pieces[unk_id][0],
            fuse_unk=True,
            byte_fallback=model.byte_fallback,
        )
    else:
        kind = library.models.Unigram(list(pieces), unk_id=unk_id, byte_fallback=model.byte_fallback)
    backend = library.Tokenizer(kind)
    steps = library.normalizers
    rules = [steps.Precompiled(model.character_map)] if model.character_map else []
    if model.trims_spaces:
        rules += [steps.Replace(library.Regex("\\A +| +\\z"), ""), steps.Replace(library.Regex(" {2,}"), " ")]
    rules += [steps.Prepend(SPACE)] if model.begins_with_space else []
    backend.normalizer = steps.Sequence([*rules, steps.Replace(" ", SPACE)])
    decoders = library.decoders
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*parts, *([decoders.Strip(" ", 1, 0)] if model.begins_with_space else [])])
    return backend


def _merges(pieces: Sequence[Piece], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs that form pieces, those of the highest score first."""
    found = []
    for piece, score in pieces:
        if piece.startswith(HIDDEN):
            continue
        pairs = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
        known = [(left, right) for left, right in pairs if left in vocabulary and right in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        found += [(score, pair) for pair in known]
    found.sort(key=lambda item: -item[0])
    return [pair for _, pair in found]
