"""Tokenizers whose SentencePiece model finds the pieces of a text, and whose vocab.json has their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from dragoman.data.texts import check_text, check_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.data.vocabulary import SPACE
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.interop.huggingface.tokenizers.languages import some
from dragoman.interop.huggingface.tokenizers.pretrained import PretrainedTokenizer, Rules


class MappedTokenizer(PretrainedTokenizer):
    """Pieces of a SentencePiece model, ids of another vocabulary; a piece without an id there is unknown.

    Args:
        backend: the library's tokenizer of the SentencePiece model.
        files, rules: as of `PretrainedTokenizer`.
        ids: of the vocabulary's tokens.
        vocab_size: where it is more than the highest id asks for.
    """

    def __init__(
        self,
        backend: Any,
        files: TokenizerFiles,
        rules: Rules,
        ids: Mapping[str, int],
        vocab_size: int = 0,
    ) -> None:
        super().__init__(backend, files, rules)
        pieces = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        self._table = [ids.get(piece, rules.unk_id) for piece, _ in pieces]
        self._names = {id: name for name, id in ids.items()}
        self._vocab_size = max(vocab_size, 1 + max(self._names))

    def encode(self, text: str) -> list[int]:
        check_text("Tokenizer", "text", text)
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        table = self._table
        return [[table[id] for id in ids] for ids in super().encode_batch(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        names = [self._names.get(id, "") for id in self._checked(ids) if id not in self._rules.silent]
        return "".join(names).replace(SPACE, " ").strip()

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [self._names.get(id, "") for id in self._checked(ids)]


class MarianTokenizer(MappedTokenizer):
    """Marian's: two SentencePiece models, and the code of a target language, as >>fra<<, at the beginning of a source.

    Args:
        backend, files, rules, ids: as of `MappedTokenizer`, for sources.
        target: the tokenizer of outputs.
        needs_code: a source must begin with a code.
    """

    def __init__(
        self,
        backend: Any,
        files: TokenizerFiles,
        rules: Rules,
        ids: Mapping[str, int],
        target: MappedTokenizer,
        needs_code: bool,
    ) -> None:
        super().__init__(backend, files, rules, ids)
        self._ids = {name: id for name, id in ids.items() if name.startswith(">>") and name.endswith("<<")}
        self._target, self._needs_code = target, needs_code

    @property
    def target(self) -> Tokenizer:
        return self._target

    def with_languages(self, source_language: str | None, target_language: str | None) -> Self:
        """Of the target alone: as fra or >>fra<<. A source that begins with a code of its own keeps it."""
        if not self._ids:
            return super().with_languages(source_language, target_language)
        known = isinstance(target_language, str) and _code(target_language) in self._ids
        if target_language is not None and not known:
            raise ValueError(
                f"Tokenizer: target_language must be one of {some(list(self._ids))}, got {target_language!r}"
            )
        made = self._copy()
        made._codes = source_language, target_language or self._codes[1]
        return made

    def trimmed(self, texts: Sequence[str]) -> list[str]:
        """Texts that begin with the code of a language, where the model needs one."""
        texts = super().trimmed(texts)
        language = self._codes[1]
        if language is not None:
            return [text if text.startswith(">>") else _code(language) + text for text in texts]
        for i, text in enumerate(texts):
            if self._needs_code and not text.startswith(">>"):
                raise ValueError(
                    f"Tokenizer: texts[{i}] must begin with the code of a language, one of {some(list(self._ids))}; "
                    "target_language sets it for all texts"
                )
        return texts

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        parts = [self._parted(text) for text in check_texts("Tokenizer", "texts", texts)]
        found = super().encode_batch([rest for _, rest in parts])
        return [[*code, *ids] for (code, _), ids in zip(parts, found, strict=True)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        code, rest = self._parted(text)
        start = len(text) - len(rest)
        return [*((0, start) for _ in code), *((start + a, start + b) for a, b in super().spans(rest))]

    def _parted(self, text: str) -> tuple[list[int], str]:
        """The id of the code that a text begins with, if any, and the rest. ValueError for an unknown code."""
        end = text.find("<<") + 2
        if not self._ids or not text.startswith(">>") or end < 2:
            return [], text
        if (id := self._ids.get(text[:end])) is None:
            raise ValueError(f"Tokenizer: the code must be one of {some(list(self._ids))}, got {text[:end]!r}")
        return [id], text[end:]


def _code(language: str) -> str:
    return language if language.startswith(">>") else f">>{language}<<"
