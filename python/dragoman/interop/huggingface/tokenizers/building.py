"""Builds the tokenizer of a folder from the files that are there."""

from __future__ import annotations

import errno
import re
from typing import Any

from dragoman.data.frame import Frame, PairFrame
from dragoman.data.tokenizer import backend_of
from dragoman.data.tokenizer_file import checked_tokenizer
from dragoman.interop.huggingface.tokenizers.byte_tokenizer import ByteTokenizer
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.interop.huggingface.tokenizers.languages import Languages
from dragoman.interop.huggingface.tokenizers.names import Names, kind_of
from dragoman.interop.huggingface.tokenizers.pieces import from_pieces, marian, with_vocabulary
from dragoman.interop.huggingface.tokenizers.pretrained import PretrainedTokenizer, Rules
from dragoman.interop.huggingface.tokenizers.template import frame_of, pair_frame, pair_frame_of

_MODELS = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")  # files of SentencePiece

_QWEN = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)


def build(files: TokenizerFiles) -> PretrainedTokenizer:
    """The tokenizer of a folder.

    Raises:
        OSError: the folder has no file that makes one, or one cannot be read.
        ValueError: naming the file and what in it cannot be used.
    """
    kind = kind_of(files)
    model = next((name for name in _MODELS if name in files), None)
    if kind == "ByT5":
        return ByteTokenizer(files)
    if "tokenizer.json" in files:
        return _from_json(files, kind)
    if "vocab.txt" in files:
        return _of_values(files, kind, _word_pieces(files, kind))
    if "source.spm" in files:
        return marian(files)
    if "merges.txt" in files:
        return _of_values(files, kind, _byte_pairs(files, kind))
    if model is not None:
        return with_vocabulary(files, model) if "vocab.json" in files else from_pieces(files, kind, model)
    expected = "tokenizer.json, vocab.txt, vocab.json with merges.txt, source.spm, " + ", ".join(_MODELS)
    raise FileNotFoundError(errno.ENOENT, f"no tokenizer; expected one of {expected}", str(files.origin))


def _from_json(files: TokenizerFiles, kind: str) -> PretrainedTokenizer:
    """Of a tokenizer.json, whose post-processor says what stands around a text."""
    name = "tokenizer.json"
    values, rows = files.object(name), files.object("config.json").get("vocab_size")
    try:
        frame, pair = frame_of(values.get("post_processor")), pair_frame_of(values.get("post_processor"))
    except ValueError as error:
        raise ValueError(f"{files.path(name)}: not a tokenizer ({error})") from None
    checked = checked_tokenizer(values, files.path(name), gaps=True)
    if isinstance(rows, int):  # of the model: tokens that were added beyond them have no row there
        checked["added_tokens"] = [token for token in checked["added_tokens"] if token["id"] < rows]
    return _with_frame(files, kind, checked, frame, pair)


def _with_frame(
    files: TokenizerFiles, kind: str, values: dict[str, Any], frame: Frame, pair: PairFrame | None
) -> PretrainedTokenizer:
    backend = backend_of(values, str(files.origin))
    names = Names(files, kind)
    ids = backend.get_vocab(with_added_tokens=True)
    settings = files.object("tokenizer_config.json")
    begin, end = names.id("bos_token", ids), names.id("eos_token", ids)
    if settings.get("add_bos_token") is True and not frame.prefix:
        frame = Frame(begin, frame.suffix)
    splitters = _types(values.get("pre_tokenizer"))
    unknown = names.id("unk_token", ids)
    rules = Rules(
        frame=frame,
        pair=pair,
        begin=begin,
        end=end,
        unk_id=unknown[0] if unknown else 0,
        mask_id=next(iter(names.id("mask_token", ids)), None),
        languages=_languages(files, kind, values["added_tokens"], settings),
        reads_names=True,
        spaced_words=any(each["type"] == "ByteLevel" and not each.get("add_prefix_space", True) for each in splitters),
        cleans=settings.get("clean_up_tokenization_spaces") is True and values["model"]["type"] != "BPE",
    )
    return PretrainedTokenizer(backend, files, rules)


def _types(component: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a pre-tokenizer."""
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [step for inner in component["pretokenizers"] for step in _types(inner)]
    return [component]


def _languages(
    files: TokenizerFiles, kind: str, added: list[dict[str, Any]], settings: dict[str, Any]
) -> Languages | None:
    """Language codes among added tokens, of the kinds that have them."""
    form = {"NLLB": r"[a-z]{3}_[A-Z][a-z]{3}", "MBart": r"[a-z]{2}_[A-Z]{2}", "MBart50": r"[a-z]{2}_[A-Z]{2}"}.get(kind)
    if form is None:
        return None
    ids = {token["content"]: token["id"] for token in added if re.fullmatch(form, token["content"])}
    if not ids:
        return None
    legacy = settings.get("legacy_behaviour") is True
    older = kind == "MBart" and "sv_SE" not in ids
    return Languages(
        ids,
        before=not (older or legacy),
        begins=older,
        source=settings.get("src_lang"),
        target=settings.get("tgt_lang"),
    )


def _of_values(files: TokenizerFiles, kind: str, values: dict[str, Any]) -> PretrainedTokenizer:
    """Of the fields of a tokenizer.json that were made from other files."""
    names = Names(files, kind)
    tokens = values["model"]["vocab"]
    values["added_tokens"] = names.added(tokens)
    checked = checked_tokenizer({"version": "1.0", **values}, str(files.origin), gaps=True)
    ids = {**tokens, **{token["content"]: token["id"] for token in checked["added_tokens"]}}
    before, after = (names.id(name, ids) for name in names.around)
    pair = pair_frame(kind == "Bert", before[0], after[0]) if before and after else None
    return _with_frame(files, kind, checked, Frame(before, after), pair)


def _word_pieces(files: TokenizerFiles, kind: str) -> dict[str, Any]:
    """BERT's vocab.txt, a token a line."""
    settings = files.object("tokenizer_config.json")
    lower, accents = settings.get("do_lower_case", True), settings.get("strip_accents")
    return {
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
            "strip_accents": accents,
            "lowercase": lower,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": Names(files, kind)["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: id for id, token in enumerate(files.lines("vocab.txt"))},
        },
    }


def _byte_pairs(files: TokenizerFiles, kind: str) -> dict[str, Any]:
    """GPT-2's vocab.json and merges.txt."""
    spaced = files.object("tokenizer_config.json").get("add_prefix_space") is True
    merges = [line.split(" ") for line in files.lines("merges.txt") if line and not line.startswith("#version")]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": spaced, "trim_offsets": True, "use_regex": kind != "Qwen2"}
    splitter = {"type": "Split", "pattern": {"Regex": _QWEN}, "behavior": "Isolated", "invert": False}
    qwen = {"type": "Sequence", "pretokenizers": [splitter, bytes_of]}
    return {
        "normalizer": {"type": "NFC"} if kind == "Qwen2" else None,
        "pre_tokenizer": qwen if kind == "Qwen2" else bytes_of,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": files.vocabulary("vocab.json"),
            "merges": merges,
        },
    }
