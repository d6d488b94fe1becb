"""Names of special tokens, and the kind of tokenizer, by a folder's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman.arguments import shown
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_BERT = dict(zip(_SPECIAL, (None, None, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"), strict=True))
_FAIRSEQ = dict(zip(_SPECIAL, ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"), strict=True))
_GPT2 = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_PLAIN = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

# What each kind calls its special tokens, where the folder does not say.
_DEFAULTS: Mapping[str, Mapping[str, str | None]] = {
    "Bert": _BERT,
    "MPNet": {**_FAIRSEQ, "unk_token": "[UNK]"},
    **dict.fromkeys(("Roberta", "XLMRoberta", "MBart", "MBart50", "NLLB", "M2M100"), _FAIRSEQ),
    **dict.fromkeys(("T5", "Marian"), _PLAIN),
    "Pegasus": {**_PLAIN, "mask_token": "<mask_2>"},
    "GPT2": _GPT2,
    "Qwen2": dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
    "Llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "Gemma": {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
}

_OF_MODEL = {
    "marian": "Marian", "bart": "Roberta", "mbart": "MBart", "m2m_100": "M2M100", "pegasus": "Pegasus",
    "t5": "T5", "mt5": "T5", "umt5": "T5", "bert": "Bert", "distilbert": "Bert", "mpnet": "MPNet",
    "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "gpt2": "GPT2", "whisper": "GPT2", "smollm3": "GPT2",
    "llama": "Llama", "mistral": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen2",
    "gemma": "Gemma", "gemma2": "Gemma", "gemma3": "Gemma", "gemma3_text": "Gemma",
}  # fmt: skip

_OF_CLASS = {
    "Bart": "Roberta", "DistilBert": "Bert", "MT5": "T5", "Nllb": "NLLB", "Whisper": "GPT2", "ByT5": "ByT5",
}  # fmt: skip  # others have their kind's name

_DIGITS = 8  # of an id

_VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "source.spm", "spiece.model", "sentencepiece.bpe.model",
    "tokenizer.model",
)  # fmt: skip


def kind_of(files: TokenizerFiles) -> str:
    """The kind of tokenizer, by its class in tokenizer_config.json, or by the kind of model."""
    given = files.object("tokenizer_config.json").get("tokenizer_class")
    name = given.removesuffix("Fast").removesuffix("Tokenizer") if isinstance(given, str) else ""
    kind = _OF_CLASS.get(name, name)
    if kind not in _DEFAULTS and kind != "ByT5":
        kind = _OF_MODEL.get(str(files.object("config.json").get("model_type")), "")
    if kind == "T5" and not any(name in files for name in _VOCABULARIES):
        return "ByT5"
    if kind == "M2M100" and "vocab.json" not in files:
        return "NLLB"
    return kind


class Names(dict[str, str]):
    """The names of special tokens, as "eos_token", of a folder. A missing one is a ValueError, which names the file.

    Attributes:
        around: which of them stand before and after a text.
    """

    def __init__(self, files: TokenizerFiles, kind: str) -> None:
        self._files = files
        self._path = files.path("tokenizer_config.json")
        self._settings = files.object("tokenizer_config.json")
        older = files.object("special_tokens_map.json")
        for name in _SPECIAL:
            value = self._settings.get(name, older.get(name, _DEFAULTS.get(kind, {}).get(name)))
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                self[name] = value
        framed = kind in ("Bert", "MPNet", "Roberta")
        self.around = ("cls_token", "sep_token") if framed else ("", "")
        self._strips_mask = kind in ("MPNet", "Roberta")

    def __missing__(self, name: str) -> str:
        raise ValueError(f"{self._path}: {name} must be a text, got {shown(self._settings.get(name))}")

    def id(self, name: str, ids: Mapping[str, int]) -> tuple[int, ...]:
        """The id of a special token, or nothing where there is none."""
        token = self.get(name)
        return () if token is None or token not in ids else (ids[token],)

    def added(self, tokens: Mapping[str, int]) -> list[dict[str, Any]]:
        """The added tokens of a tokenizer.json, for a vocabulary that came without one."""
        found: dict[str, dict[str, Any]] = {}
        decoder = self._settings.get("added_tokens_decoder")
        if isinstance(decoder, dict):
            for id, fields in decoder.items():
                content = fields.get("content") if isinstance(fields, dict) else None
                if not id.isdecimal() or len(id) > _DIGITS or not isinstance(content, str):
                    got = f"{shown(id)}: {shown(fields)}"
                    raise ValueError(f"{self._path}: added_tokens_decoder must hold tokens by their ids, got {got}")
                found[content] = _token(content, int(id), fields)
        for token, id in self._files.vocabulary("added_tokens.json").items():
            found.setdefault(token, _token(token, id, {}))
        for name, token in self.items():
            if token in tokens and token not in found:
                strips = name == "mask_token" and self._strips_mask
                found[token] = _token(token, tokens[token], {"lstrip": strips})
        return list(found.values())


def _token(content: str, id: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An added token as in tokenizer.json, with the flags that `fields` gives."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": id, "content": content, **{name: fields.get(name, value) for name, value in flags.items()}}
