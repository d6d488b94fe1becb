"""What every vocabulary that is learnt here has: its special tokens, its bytes, and how a text becomes words."""

from __future__ import annotations

from typing import Any, Literal

from dragoman.data.tokenizer_file import PUNCTUATION

Kind = Literal["bpe", "unigram", "char"]

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")  # ids 0, 1, 2, 3
PAD, BOS, EOS, UNK = range(4)
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))  # the ids that follow

SPACE = "\u2581"  # stands for a space in tokens


def tokenizers_library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError("tokenizer: needs the extra: pip install 'dragoman[text]'") from None
    return tokenizers


def word_normalizer(library: Any, lowercase: bool) -> Any:
    """Puts a mark before every word, also before the first, so that a text keeps a space at its beginning."""
    steps = library.normalizers
    case = [steps.Lowercase()] if lowercase else []
    return steps.Sequence([*case, steps.NFC(), steps.Replace(" ", SPACE), steps.Prepend(SPACE)])


def word_splitter(library: Any) -> Any:
    """Splits a text into words and punctuation. Words with hyphens stay whole."""
    marks = library.pre_tokenizers.Split(library.Regex(PUNCTUATION), "isolated")
    return library.pre_tokenizers.Sequence([space_splitter(library), marks])


def space_splitter(library: Any) -> Any:
    """Splits a text at spaces."""
    return library.pre_tokenizers.Metaspace(SPACE, prepend_scheme="never")


def reads_words(backend: Any) -> bool:
    """Whether the first step is to split a text at spaces, as in the tokenizers that are trained here."""
    library = tokenizers_library()
    normalizer, splitter = backend.normalizer, backend.pre_tokenizer
    if normalizer is None or splitter is None:
        return False
    ours = [word_normalizer(library, lowercase) for lowercase in (False, True)]
    spaces = space_splitter(library)
    return any(normalizer.__getstate__() == our.__getstate__() for our in ours) and any(
        splitter.__getstate__() == our.__getstate__() for our in (word_splitter(library), spaces)
    )
