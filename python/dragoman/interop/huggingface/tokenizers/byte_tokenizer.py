"""ByteTokenizer: ByT5's, whose tokens are bytes (Xue et al. 2022, arXiv:2105.13626)."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman.data.frame import Frame
from dragoman.data.texts import check_text, check_texts
from dragoman.data.vocabulary import BYTES, SPECIALS, tokenizers_library
from dragoman.interop.huggingface.tokenizers.files import TokenizerFiles
from dragoman.interop.huggingface.tokenizers.pretrained import PretrainedTokenizer, Rules

_NAMES = (SPECIALS[0], SPECIALS[2], SPECIALS[3])  # pad, eos and unk: ids 0, 1, 2
_EXTRA = 125


class ByteTokenizer(PretrainedTokenizer):
    """The id of a byte is its value plus 3; after the bytes come 125 sentinels.

    Args:
        files: of the folder.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        names = [*_NAMES, *BYTES, *(f"<extra_id_{i}>" for i in range(_EXTRA))]
        library = tokenizers_library()
        backend = library.Tokenizer(library.models.WordLevel({name: i for i, name in enumerate(names)}, names[2]))
        super().__init__(backend, files, Rules(Frame((), (1,)), None, (0,), (1,), 2))

    def encode(self, text: str) -> list[int]:
        check_text("Tokenizer", "text", text)
        return [byte + len(_NAMES) for byte in text.encode()]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in check_texts("Tokenizer", "texts", texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Special tokens are left out, and so are bytes that are not UTF-8."""
        values = (id - len(_NAMES) for id in self._checked(ids))
        return bytes(value for value in values if 0 <= value < 256).decode(errors="ignore")

    def spans(self, text: str) -> list[tuple[int, int]]:
        check_text("Tokenizer", "text", text)
        return [(i, i + 1) for i, character in enumerate(text) for _ in character.encode()]
