"""Text to token ids and back, with one vocabulary for source and target.

There are three kinds of vocabulary: byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), a unigram language
model (Kudo 2018, arXiv:1804.10959) and single characters. The `tokenizers` library (extra `text`) learns and applies
them. It is imported only when a tokenizer is trained or loaded.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, get_args

from dragoman import arguments
from dragoman.data.encodings import encodings
from dragoman.data.frame import Frame, PairFrame
from dragoman.data.learning import LARGEST, MINIMUM, learn
from dragoman.data.texts import check_text, check_texts
from dragoman.data.tokenizer_file import MAXIMUM, parse_tokenizer
from dragoman.data.vocabulary import BOS, EOS, SPECIALS, UNK, Kind, reads_words, tokenizers_library
from dragoman.data.word_cache import WordCache
from dragoman.files import atomic_write
from dragoman.json_file import read_bytes

PACKED = "dragoman.pretrained"  # the format of a tokenizer.json that holds the files of another
_PACKED_START = f'{{"format": "{PACKED}"'.encode()


def _call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call of the library. Its own failures, a bare Exception or a panic, which is no Exception, are ValueErrors."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"tokenizer: the library failed: {error}") from None


class Tokenizer:
    """Text to token ids and back. Made by `Tokenizer.train` or `Tokenizer.load`.

    A text is normalised to Unicode form NFC and split at spaces and around punctuation; a space becomes the mark
    U+2581 before its word. A character without a token is written as the bytes of its UTF-8 form. So
    `decode(encode(text))` is the NFC form of any text, except that U+2581 itself becomes a space; with `lowercase`, it
    is that of the text in lower case. In a text, the names of special tokens are ordinary characters.

    Subclasses have vocabularies from elsewhere. What a model reads of a text is for every tokenizer its ids in a frame.

    Attributes:
        source_frame: of what the encoder of an encoder-decoder reads.
        text_frame: of what an encoder of texts or words reads: one id on either side.
        prompt_frame: of what a language model goes on from.
        document_frame: of what a language model learns.
        pair_frame: of two texts that an encoder reads together; None where it reads one.
        unk_id: stands for a word without ids.
        mask_id: of the token that hides another one; None where the vocabulary has none.
    """

    source_frame: Frame = Frame((), (EOS,))
    text_frame: Frame = Frame((BOS,), (EOS,))
    prompt_frame: Frame = Frame((BOS,), ())
    document_frame: Frame = text_frame
    pair_frame: PairFrame | None = None
    unk_id: int = UNK
    mask_id: int | None = None

    def __init__(self, backend: Any) -> None:
        library = tokenizers_library()
        if not isinstance(backend, library.Tokenizer):
            raise TypeError(f"tokenizer: backend must be a tokenizers.Tokenizer, got {type(backend).__name__}")
        self._backend = backend
        self._vocab_size = int(backend.get_vocab_size())  # the library counts again at each call
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._words = WordCache(backend) if reads_words(backend) else None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend.encode_special_tokens = True  # the library's own copies forget it

    @classmethod
    def train(
        cls, lines: Iterable[str], vocab_size: int = 10000, kind: Kind = "bpe", *, lowercase: bool = False
    ) -> Tokenizer:
        """Learns a vocabulary from text.

        Args:
            lines: sentences of both languages, in any order. They are held in memory.
            vocab_size: maximum number of tokens, with the four special ones and without the 256 bytes; at least 64. A
                small text may give fewer.
            kind: "bpe", "unigram" or "char". In the first two, characters take at most half of the vocabulary, and
                the rarest are written as bytes.
            lowercase: write every text in lower case, here and whenever the tokenizer is used.

        Raises:
            ModuleNotFoundError: without the `tokenizers` library.
            TypeError: naming the index of a line that is no text.
            ValueError: an unknown kind, or a `vocab_size` below 64 or above 1,000,000.
        """
        arguments.choice("tokenizer", "kind", kind, get_args(Kind))
        vocab_size = arguments.integer("tokenizer", "vocab_size", vocab_size, MINIMUM)
        if vocab_size > LARGEST:
            raise ValueError(f"tokenizer: vocab_size must be at most {LARGEST:,}, got {vocab_size}")
        return cls(learn(lines, vocab_size, kind, arguments.flag("tokenizer", "lowercase", lowercase)))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Reads a tokenizer.json, or the tokenizer of a model's folder: one from here, or from elsewhere, such as
        transformers writes.

        The files may come from anywhere: what would end the process or never return in the library is refused before.

        Raises:
            OSError: a file cannot be read.
            ModuleNotFoundError: without the `tokenizers` library.
            ValueError: naming the file, when it is not a tokenizer, is too large, or has other special tokens.
        """
        arguments.check_path("tokenizer", "path", path)
        if Path(path).is_dir():
            loaded: Tokenizer = _elsewhere().load_tokenizer(Path(path))
            return loaded
        return cls.parse(read_bytes(path, MAXIMUM), path)

    @classmethod
    def parse(cls, content: bytes, path: str | Path) -> Tokenizer:
        """As `load`, from the content of a file; errors name `path`."""
        tokenizers_library()
        arguments.check_types("tokenizer", bytes, content=content)
        if content.startswith(_PACKED_START):
            parsed: Tokenizer = _elsewhere().parse_tokenizer(content, Path(path))
            return parsed
        backend = backend_of(parse_tokenizer(content, str(path)), str(path))
        for id, token in enumerate(SPECIALS):
            if (got := backend.token_to_id(token)) != id:
                raise ValueError(f"{path}: token {token} must have id {id}, got {got}")
        return cls(backend)

    def save(self, path: str | Path) -> None:
        """Writes a tokenizer.json, atomically. OSError, naming the file, if that fails."""
        arguments.check_path("tokenizer", "path", path)
        atomic_write(path, self._backend.to_str(pretty=True).encode())

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of everything that decides which ids a text has."""
        return hashlib.sha256(self._backend.to_str().encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of tokens, with special ones and bytes."""
        return self._vocab_size

    def with_languages(self, source_language: str | None, target_language: str | None) -> Tokenizer:
        """The tokenizer for two languages of a model that translates between several.

        Raises:
            ValueError: naming the argument: an unknown code, or a missing one where the model needs it, with some that
                it knows; any code for a tokenizer without languages.
        """
        for name, code in (("source_language", source_language), ("target_language", target_language)):
            if code is not None:
                raise ValueError(f"Tokenizer: {name} must be None for a model without language codes, got {code!r}")
        return self

    def config_of(self, config: Any) -> Any:
        """The config of a model with the ids that the tokenizer's folder and languages decide."""
        return config

    def search_options(self, config: Any) -> Mapping[str, Any]:
        """What the tokenizer's folder asks of a search where a call does not: `SearchOptions`, by their names."""
        return {}

    def generation_config(self) -> Mapping[str, Any]:
        """What generation_config.json in the tokenizer's folder holds, as it is."""
        return {}

    @property
    def target(self) -> Tokenizer:
        """The tokenizer of an encoder-decoder's outputs: itself, where both sides have one vocabulary."""
        return self

    def trimmed(self, texts: Sequence[str]) -> list[str]:
        """Texts as they stand in frames: here without spaces at either end. TypeError, ValueError as of
        `encode_batch`."""
        return [text.strip() for text in check_texts("Tokenizer", "texts", texts)]

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens. TypeError, ValueError for what is no text."""
        check_text("Tokenizer", "text", text)
        return list(_call(self._backend.encode, text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts. TypeError, ValueError naming the index of one that is none."""
        texts = check_texts("Tokenizer", "texts", texts)
        if self._words is not None:
            ids: list[list[int]] = _call(self._words.encode_batch, texts)
            return ids
        return [list(encoding.ids) for encoding in _call(encodings, self._backend, texts)]

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word of a sentence that is split into words already. TypeError, ValueError as there."""
        return self.encode_batch(check_texts("Tokenizer", "words", words))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """For each id of `encode(text)`, where the characters that it stands for begin and end.

        Bytes of one character have the same span. The mark of a space may have that of the space or of what follows.
        TypeError, ValueError for what is no text.
        """
        check_text("Tokenizer", "text", text)
        spans = _call(self._backend.encode, text, add_special_tokens=False).offsets
        found: list[tuple[int, int]] = []
        for (start, end), same in groupby(spans):
            count = len(list(same))
            ends = list(accumulate(len(character.encode()) for character in text[start:end]))
            if end - start > 1 and ends[-1] == count:  # the bytes of characters that are all unknown
                found += [(start + i, start + i + 1) for i in (bisect(ends, byte) for byte in range(count))]
            else:
                found += [(start, end)] * count
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Special tokens are left out; bytes that are not UTF-8 become U+FFFD.

        Raises:
            TypeError, ValueError: an id that is no int, or has no token, naming its place.
        """
        return str(_call(self._backend.decode, self._checked(ids), skip_special_tokens=True))

    def _checked(self, ids: Sequence[int]) -> list[int]:
        """Ids that have tokens, as ints. TypeError, ValueError as of `decode`."""
        numbers = _numbers(ids)
        if max(numbers, default=0) >= self.vocab_size:
            place = next(i for i, id in enumerate(numbers) if id >= self.vocab_size)
            raise ValueError(
                f"Tokenizer: ids[{place}] must be below vocab_size {self.vocab_size}, got {numbers[place]}"
            )
        return numbers

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many lists of ids. TypeError, ValueError as there."""
        if not isinstance(batch, Sequence) or isinstance(batch, str | bytes):
            raise TypeError(f"Tokenizer: batch must be a list of lists of ids, got {type(batch).__name__}")
        return [self.decode(ids) for ids in batch]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The name of each token, in which U+2581 stands for a space. ValueError for an id without a token."""
        names = [self._backend.id_to_token(id) for id in _numbers(ids)]
        if None in names:
            raise ValueError(f"tokens: ids must lie in [0, {self.vocab_size}), got {ids[names.index(None)]}")
        return names

    def merges(self) -> list[tuple[int, int, int]]:
        """The merges of byte-pair encoding, first the one that is done first: ids of left, right and what they form.

        Raises:
            ValueError: a tokenizer of another kind.
        """
        model = json.loads(self._backend.to_str())["model"]
        if model["type"] != "BPE" or not model["merges"]:
            raise ValueError("Tokenizer: bpe_dropout needs the kind bpe")
        ids, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
        return [(ids[left], ids[right], ids[left + right.removeprefix(prefix)]) for left, right in model["merges"]]

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size})"


def backend_of(values: dict[str, Any], origin: str) -> Any:
    """The library's tokenizer of a checked tokenizer.json. ValueError, naming `origin`, where it refuses it."""
    try:
        return _call(tokenizers_library().Tokenizer.from_str, json.dumps(values))
    except ValueError as error:
        raise ValueError(f"{origin}: not a tokenizer ({error})") from None


def _elsewhere() -> Any:
    """The room of tokenizers from elsewhere, which stands on this one, so it is imported by name where it is needed."""
    return import_module("dragoman.interop.huggingface.tokenizers")


def with_token(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """The ids that have a token. A model with a larger vocabulary than its tokenizer's may write others."""
    size = tokenizer.vocab_size
    return [id for id in ids if id < size]


def _numbers(ids: Sequence[int]) -> list[int]:
    """Ids as ints of 32 bits. TypeError, ValueError naming the first that is none."""
    try:
        return array("I", iter(ids)).tolist()
    except (TypeError, ValueError, OverflowError):
        raise _ids_error(ids) from None


def _ids_error(ids: Any) -> Exception:
    try:
        for i, id in enumerate(ids):
            arguments.integer("Tokenizer", f"ids[{i}]", id, 0, 2**32)
    except (TypeError, ValueError) as error:
        if str(error).startswith("Tokenizer: "):
            return error
    return TypeError(f"Tokenizer: ids must be a list of ints, got {type(ids).__name__}")
