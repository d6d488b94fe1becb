"""Tokenizers of folders whose vocabulary is a SentencePiece model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dragoman.data.frame import Frame
from dragoman.data.vocabulary import SPACE, tokenizers_library
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.interop.huggingface.tokenizers.languages import M2M100, MBART, MBART50, NLLB, WMT21, Languages
from dragoman.interop.huggingface.tokenizers.mapped import MappedTokenizer, MarianTokenizer
from dragoman.interop.huggingface.tokenizers.names import Names
from dragoman.interop.huggingface.tokenizers.pretrained import PretrainedTokenizer, Rules
from dragoman.interop.huggingface.tokenizers.sentencepiece import (
    HIDDEN,
    USER,
    Piece,
    SentencePieceModel,
    hidden,
    read_sentencepiece,
    sentencepiece_backend,
)
from dragoman.interop.huggingface.tokenizers.template import pair_frame

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # of fairseq, which come before all pieces
_CODES = {"MBart": MBART, "MBart50": MBART50, "NLLB": NLLB}
_SENTINELS = 100  # of T5
_OFFSET = 103  # of Pegasus
_MASKS = ("<mask>", "<mask_2>")  # of one token
_LOWEST = -1e6  # score of tokens that are found by their names alone
_MADE_UP = 8  # rows of M2M100 that no token has


def from_pieces(files: TokenizerFiles, kind: str, name: str) -> PretrainedTokenizer:
    """Of one SentencePiece model: the ids of its pieces, moved to make place for special tokens."""
    model = read_sentencepiece(files.read(name), files.path(name))
    match kind:
        case "T5":
            return _t5(files, model)
        case "Pegasus":
            return _pegasus(files, model)
        case "XLMRoberta" | "MBart" | "MBart50" | "NLLB":
            return _fairseq(files, kind, model, name)
        case "Llama" | "Gemma":
            return _language_model(files, kind, model)
    kinds = "T5, Pegasus, XLMRoberta, MBart, MBart50, Nllb, Llama, Gemma"
    config = files.path("tokenizer_config.json")
    raise ValueError(f"{config}: tokenizer_class must be one of {kinds} with {name}, got {kind or 'none of them'}")


def _t5(files: TokenizerFiles, model: SentencePieceModel) -> PretrainedTokenizer:
    extra = _count(files, "extra_ids", _SENTINELS)
    sentinels = [name for i in range(extra - 1, -1, -1) if (name := f"<extra_id_{i}>") not in model.pieces]
    pieces = [*model.scored(), *((name, _LOWEST) for name in sentinels)]
    pad, end = (_place(files, model, name) for name in ("<pad>", "</s>"))
    return _finished(files, Rules(Frame((), (end,)), None, (pad,), (end,), model.unk_id), model, pieces, sentinels)


def _pegasus(files: TokenizerFiles, model: SentencePieceModel) -> PretrainedTokenizer:
    offset = _count(files, "offset", _OFFSET, 4)
    masks = ["<mask_1>", "<mask_2>"]
    unused = (f"<unk_{i}>" for i in range(2, offset))
    first = [hidden("<pad>"), hidden("</s>"), *((name, _LOWEST) for name in masks), *map(hidden, unused)]
    rules = Rules(Frame((), (1,)), None, (0,), (1,), model.unk_id + offset)
    return _finished(files, rules, model, [*first, *model.scored()[2:]], masks)


def _fairseq(files: TokenizerFiles, kind: str, model: SentencePieceModel, name: str) -> PretrainedTokenizer:
    """The ids of fairseq: its special tokens, the pieces after the first three, language codes, and a mask."""
    if model.pieces[:3] != ("<unk>", "<s>", "</s>"):
        raise ValueError(f"{files.path(name)}: pieces must begin with <unk>, <s> and </s>, got {model.pieces[:3]}")
    settings = files.object("tokenizer_config.json")
    codes = _CODES.get(kind, [])
    pieces = [*map(hidden, _SPECIAL), *model.scored()[3:], *map(hidden, codes), ("<mask>", _LOWEST)]
    first = len(model.pieces) + 1
    languages, frame = None, Frame((0,), (2,))
    if codes:
        older = kind == "MBart"
        ids = {code: first + i for i, code in enumerate(codes)}
        languages = Languages(
            ids,
            before=not older and settings.get("legacy_behaviour") is not True,
            begins=older,
            source=settings.get("src_lang"),
            target=settings.get("tgt_lang"),
        )
        frame = languages.frame("eng_Latn" if kind == "NLLB" else "en_XX", 2)
    return _finished(
        files,
        Rules(frame, None if codes else pair_frame(False, 0, 2), (0,), (2,), 3, languages=languages),
        model,
        pieces,
        ["<mask>"],
    )


def _language_model(files: TokenizerFiles, kind: str, model: SentencePieceModel) -> PretrainedTokenizer:
    settings, names = files.object("tokenizer_config.json"), Names(files, kind)
    begin, end = (_place(files, model, names[name]) for name in ("bos_token", "eos_token"))
    prefix = (begin,) if settings.get("add_bos_token", True) is True else ()
    suffix = (end,) if settings.get("add_eos_token") is True else ()
    rules = Rules(Frame(prefix, suffix), None, (begin,), (end,), model.unk_id)
    return _finished(files, rules, model, model.scored(), [])


def marian(files: TokenizerFiles) -> MarianTokenizer:
    """Of source.spm and target.spm, whose pieces have their ids in vocab.json, or target_vocab.json for outputs."""
    settings = files.object("tokenizer_config.json")
    source_ids = files.vocabulary("vocab.json")
    target_ids = files.vocabulary("target_vocab.json") if settings.get("separate_vocabs") is True else source_ids
    sides = []
    for name, ids in (("source.spm", source_ids), ("target.spm", target_ids)):
        model = read_sentencepiece(files.read(name), files.path(name))
        backend = sentencepiece_backend(model, model.scored(), model.unk_id)
        unk, end, pad = (_known(files, ids, token) for token in ("<unk>", "</s>", "<pad>"))
        rules = Rules(Frame((), (end,)), None, (pad,), (end,), unk, silent=frozenset((unk, end, pad)))
        sides.append((backend, files, rules, ids))
    codes = [name for name in source_ids if name.startswith(">>")]
    language = settings.get("target_lang")
    return MarianTokenizer(
        *sides[0], target=MappedTokenizer(*sides[1]), needs_code=bool(codes) and f">>{language}<<" not in codes
    )


def with_vocabulary(files: TokenizerFiles, name: str) -> MappedTokenizer:
    """M2M100: pieces with their ids in vocab.json, and the codes of languages after them."""
    settings, ids = files.object("tokenizer_config.json"), files.vocabulary("vocab.json")
    model = read_sentencepiece(files.read(name), files.path(name))
    backend = sentencepiece_backend(model, model.scored(), model.unk_id)
    unk, end, pad, begin = (_known(files, ids, token) for token in ("<unk>", "</s>", "<pad>", "<s>"))
    codes = WMT21 if settings.get("language_codes") == "wmt21" else M2M100
    numbers = {code: len(ids) + i for i, code in enumerate(codes)}
    languages = Languages(numbers, source=settings.get("src_lang"), target=settings.get("tgt_lang"))
    size = len(ids) + len(codes) + _count(files, "num_madeup_words", _MADE_UP)
    every = {**ids, **{f"__{code}__": id for code, id in numbers.items()}}
    silent = frozenset((unk, end, pad, begin))
    rules = Rules(languages.frame("en", end), None, (begin,), (end,), unk, languages=languages, silent=silent)
    return MappedTokenizer(backend, files, rules, every, size)


def _finished(
    files: TokenizerFiles, rules: Rules, model: SentencePieceModel, pieces: Sequence[Piece], named: Sequence[str]
) -> PretrainedTokenizer:
    """The tokenizer with these pieces. Those in `named` are read where a text names them."""
    backend = sentencepiece_backend(model, pieces, rules.unk_id)
    user = [piece for piece, kind in zip(model.pieces, model.kinds, strict=True) if kind == USER and SPACE not in piece]
    token = tokenizers_library().AddedToken
    backend.add_tokens([token(name, normalized=False, lstrip=name == "<mask>") for name in (*named, *user)])
    silent = frozenset(id for id, (name, _) in enumerate(pieces) if name in named or name.startswith(HIDDEN))
    mask = next((id for id, (name, _) in enumerate(pieces) if name in named and name in _MASKS), None)
    return PretrainedTokenizer(backend, files, replace(rules, silent=silent, mask_id=mask))


def _count(files: TokenizerFiles, name: str, default: int, minimum: int = 0) -> int:
    """A number of tokens in tokenizer_config.json. ValueError, naming it, for what is none."""
    file = "tokenizer_config.json"
    value = files.object(file).get(name, default)
    if type(value) is not int or not minimum <= value <= 10_000:
        raise ValueError(f"{files.path(file)}: {name} must be an int in [{minimum}, 10,000], got {value!r}")
    return value


def _place(files: TokenizerFiles, model: SentencePieceModel, name: str) -> int:
    return _known(files, {piece: i for i, piece in enumerate(model.pieces)}, name)


def _known(files: TokenizerFiles, ids: dict[str, int], name: str) -> int:
    """The id of a special token. ValueError where the vocabulary lacks it."""
    if name not in ids:
        raise ValueError(f"{files.origin}: the vocabulary must have {name}, got none")
    return ids[name]
