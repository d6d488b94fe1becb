"""PretrainedTokenizer: the tokenizer of a folder from elsewhere, for every model that its folder holds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dragoman import arguments
from dragoman.data.frame import Frame, PairFrame
from dragoman.data.texts import check_texts
from dragoman.data.tokenizer import Tokenizer
from dragoman.files import atomic_write, atomic_write_all
from dragoman.interop.huggingface.generation_config import config_with, options_of
from dragoman.interop.huggingface.special_tokens import GENERATION
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.interop.huggingface.tokenizers.languages import Languages
from dragoman.interop.huggingface.tokenizers.sentencepiece import HIDDEN

_SPACES = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")  # that `cleans` takes out


@dataclass(frozen=True)
class Rules:
    """What a folder says about its tokenizer, beside the vocabulary.

    Attributes:
        frame: of a text, where no language decides it.
        pair: of two texts; None where a model reads one.
        begin, end: what a language model's documents begin and end with.
        unk_id: of the unknown token.
        mask_id: of the token that hides another one.
        languages: where the model knows several.
        reads_names: names of special tokens in a text are those tokens.
        spaced_words: a space stands before each word of a sentence.
        silent: ids that a text does not show, although the library calls them no special tokens.
        cleans: spaces before punctuation go when ids become a text.
    """

    frame: Frame
    pair: PairFrame | None = None
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    unk_id: int = 0
    mask_id: int | None = None
    languages: Languages | None = None
    reads_names: bool = False
    spaced_words: bool = False
    silent: frozenset[int] = frozenset()
    cleans: bool = False


class PretrainedTokenizer(Tokenizer):
    """The tokenizer of a folder from elsewhere. Made by `Tokenizer.load(folder)`.

    Ids are those of transformers: texts are not trimmed, and special tokens stand where the files say.

    Args:
        backend: the library's tokenizer.
        files: that it was made of.
        rules: of the folder.
    """

    def __init__(self, backend: Any, files: TokenizerFiles, rules: Rules) -> None:
        super().__init__(backend)
        backend.encode_special_tokens = not rules.reads_names
        self._vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values())
        self._files = files
        self._rules = rules
        self._codes: tuple[str | None, str | None] = (None, None)
        self._set_frames(rules.frame)

    def _set_frames(self, frame: Frame) -> None:
        rules = self._rules
        self.unk_id, self.mask_id = rules.unk_id, rules.mask_id
        self.text_frame = self.source_frame = frame
        self.pair_frame = rules.pair
        self.prompt_frame = Frame(frame.prefix)
        self.document_frame = Frame(frame.prefix or rules.begin, rules.end)

    def trimmed(self, texts: Sequence[str]) -> list[str]:
        return check_texts("Tokenizer", "texts", texts)

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        words = check_texts("Tokenizer", "words", words)
        return self.encode_batch([" " + word for word in words] if self._rules.spaced_words else words)

    def decode(self, ids: Sequence[int]) -> str:
        silent = self._rules.silent
        text = super().decode([id for id in self._checked(ids) if id not in silent] if silent else ids)
        if self._rules.cleans:
            for found in _SPACES:
                text = text.replace(found, found.strip())
        return text

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [name.removeprefix(HIDDEN) for name in super().tokens(ids)]

    def merges(self) -> list[tuple[int, int, int]]:
        raise ValueError("Tokenizer: bpe_dropout needs a tokenizer that was trained here")

    def with_languages(self, source_language: str | None, target_language: str | None) -> Self:
        languages = self._rules.languages
        if languages is None:
            super().with_languages(source_language, target_language)
            return self
        source = source_language or self._codes[0] or languages.source
        target = target_language or self._codes[1] or languages.target
        made = self._copy()
        made._set_frames(languages.frame(source, self._rules.end[0]))
        languages.id("target_language", target)
        made._codes = source, target
        return made

    def _copy(self) -> Self:
        """A tokenizer that shares everything; `copy.copy` would read the files again."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def config_of(self, config: Any) -> Any:
        languages, target = self._rules.languages, self._codes[1]
        code = None if languages is None or target is None else languages.id("target_language", target)
        config = config_with(self._files, config, code, begins=languages is not None and languages.begins)
        masks = getattr(config, "head", None) == "mlm" and config.mask_id is None
        return dataclasses.replace(config, mask_id=self.mask_id) if masks else config

    def search_options(self, config: Any) -> Mapping[str, Any]:
        return options_of(self._files, config, self.target.vocab_size)

    def generation_config(self) -> Mapping[str, Any]:
        return self._files.object(GENERATION)

    def save(self, path: str | Path) -> None:
        """Writes one tokenizer.json that holds the folder's files and the languages, atomically. `Tokenizer.load` reads
        it again. OSError, naming the file, if that fails."""
        arguments.check_path("tokenizer", "path", path)
        atomic_write(path, self._packed())

    def save_files(self, folder: str | Path) -> None:
        """Writes the files that it was made of into a folder, as they were. OSError, naming the file, if that fails."""
        arguments.check_path("tokenizer", "folder", folder)
        names = [name for name in self._files.contents if name not in ("config.json", "generation_config.json")]
        atomic_write_all({Path(folder) / name: [self._files.contents[name]] for name in names})

    def digest(self) -> str:
        return hashlib.sha256(self._packed()).hexdigest()

    def _packed(self) -> bytes:
        source, target = self._codes
        return self._files.packed(source_language=source, target_language=target)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer.parse, (self._packed(), str(self._files.origin))
