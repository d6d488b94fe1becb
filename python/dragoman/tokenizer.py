"""Byte-pair encoding with one vocabulary for source and target.

Sennrich et al. 2016, "Neural machine translation of rare words with subword units". The merges are learnt and
applied by the `tokenizers` library (extra `text`), which is imported only when a tokenizer is trained or
loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dragoman.checkpoint import atomic_write

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")  # ids 0, 1, 2, 3
PAD, BOS, EOS, UNK = range(4)


def _library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tokenizer: needs the extra: pip install 'dragoman[text]'") from None
    return tokenizers


class Tokenizer:
    """Text to token ids and back. Made by `Tokenizer.train` or `Tokenizer.load`.

    Text is brought to Unicode form NFC and split at spaces; a space becomes the mark U+2581 at the head of a
    word, so decoding restores the text. The names of special tokens inside a text are plain characters.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int = 10000) -> Tokenizer:
        """Learns merges from text until the vocabulary, specials included, holds `vocab_size` tokens.

        Args:
            lines: sentences of both languages; the order does not matter.
            vocab_size: the largest vocabulary; a small text may give fewer tokens.

        Raises:
            ModuleNotFoundError: without the `tokenizers` library.
            ValueError: when the characters of the text alone do not fit into `vocab_size`.
        """
        library = _library()
        backend = library.Tokenizer(library.models.BPE(unk_token=SPECIALS[UNK]))
        backend.normalizer = library.normalizers.NFC()
        backend.pre_tokenizer = library.pre_tokenizers.Metaspace()
        backend.decoder = library.decoders.Metaspace()
        trainer = library.trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIALS), show_progress=False)
        backend.train_from_iterator(lines, trainer)
        if (size := backend.get_vocab_size()) > vocab_size:
            raise ValueError(
                f"tokenizer: vocab_size must be at least {size} (special tokens and single characters), "
                f"got {vocab_size}"
            )
        return cls(backend)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Reads a tokenizer.json. Raises ValueError, naming the file, for one that cannot be used."""
        text = Path(path).read_bytes()
        try:
            backend = _library().Tokenizer.from_str(text.decode())
        except ModuleNotFoundError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path}: not a tokenizer ({error})") from None
        for id, token in enumerate(SPECIALS):
            if (got := backend.token_to_id(token)) != id:
                raise ValueError(f"{path}: token {token} must have id {id}, got {got}")
        return cls(backend)

    def save(self, path: str | Path) -> None:
        """Writes a tokenizer.json, atomically."""
        atomic_write(path, self._backend.to_str(pretty=True).encode())

    @property
    def vocab_size(self) -> int:
        """Number of tokens, specials included."""
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts, on all cores."""
        return [list(encoding.ids) for encoding in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return str(self._backend.decode([int(id) for id in ids], skip_special_tokens=True))

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many lists of ids."""
        return [self.decode(ids) for ids in batch]

    def __repr__(self) -> str:
        return f"Tokenizer(vocab_size={self.vocab_size})"
