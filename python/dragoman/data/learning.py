"""Learns a vocabulary from text, by the trainers of the `tokenizers` library."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from dragoman.data.encodings import threads_can_start
from dragoman.data.texts import check_texts
from dragoman.data.vocabulary import (
    BYTES,
    SPACE,
    SPECIALS,
    UNK,
    Kind,
    tokenizers_library,
    word_normalizer,
    word_splitter,
)

MINIMUM = 64  # of vocab_size: a unigram model needs `_SPELLING` and the characters of the text
LARGEST = 10**6  # the library reserves memory for as many tokens, and ends the process where there is none

_RESERVED = frozenset((*SPECIALS, *BYTES))
_SPELLING = sorted(set("".join(_RESERVED)))  # each has a token, so no text is read as a reserved token
_NEVER = -1e6  # log probability of tokens that a unigram model must never find in a text


def learn(lines: Iterable[str], vocab_size: int, kind: Kind, lowercase: bool) -> Any:
    """The library's tokenizer with a vocabulary learnt from `lines`. Arguments and errors as of `Tokenizer.train`."""
    library = tokenizers_library()
    normalizer = word_normalizer(library, lowercase)
    texts = [normalizer.normalize_str(line) for line in check_texts("tokenizer", "lines", lines)]
    size = vocab_size - len(SPECIALS)
    alphabet, texts = _alphabet(texts, size if kind == "char" else size // 2)
    match kind:
        case "bpe":
            model = _bpe(library, texts, size)
        case "unigram":
            model = _unigram(library, texts, size, alphabet)
        case "char":
            model = _merges(library, alphabet, [])
    backend = library.Tokenizer(model)
    backend.normalizer = normalizer
    backend.pre_tokenizer = word_splitter(library)
    decoders = library.decoders
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace(SPACE, " "), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(list(SPECIALS))
    return backend


def _alphabet(texts: list[str], maximum: int) -> tuple[list[str], list[str]]:
    """The `maximum` most frequent characters, which get tokens, and the texts without the others."""
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    if others := ranked[maximum:]:
        table = dict.fromkeys(map(ord, others), SPACE)
        texts = [text.translate(table) for text in texts]
    return ranked[:maximum], texts


def _train(library: Any, model: Any, trainer: Any, texts: list[str]) -> Any:
    """Trains on normalised texts. Returns the "model" of a tokenizer.json."""
    if not threads_can_start():
        raise MemoryError("tokenizer: no memory for the threads that learn a vocabulary")
    backend = library.Tokenizer(model)
    backend.pre_tokenizer = word_splitter(library)
    backend.train_from_iterator(texts, trainer)
    return json.loads(backend.to_str())["model"]


def _bpe(library: Any, texts: list[str], size: int) -> Any:
    trainer = library.trainers.BpeTrainer(vocab_size=size, show_progress=False)
    return with_bytes(library, _train(library, library.models.BPE(), trainer, texts))


def with_bytes(library: Any, learnt: Any) -> Any:
    """A BPE model with a token for every byte, from `learnt`, the "model" of a tokenizer.json without them."""
    merges = [
        (left, right)
        for left, right in learnt["merges"]
        if not _RESERVED.intersection((left, right, left + right))  # a text full of "</s>" must not learn it
    ]
    tokens = [token for token in sorted(learnt["vocab"], key=learnt["vocab"].get) if token not in _RESERVED]
    return _merges(library, tokens, merges)


def _merges(library: Any, tokens: list[str], merges: list[tuple[str, str]]) -> Any:
    vocabulary = {token: id for id, token in enumerate([*SPECIALS, *BYTES, *tokens])}
    return library.models.BPE(vocabulary, merges, unk_token=SPECIALS[UNK], byte_fallback=True)


def _unigram(library: Any, texts: list[str], size: int, alphabet: list[str]) -> Any:
    unk = SPECIALS[UNK]
    spelling = [character for character in _SPELLING if character not in alphabet]
    trainer = library.trainers.UnigramTrainer(
        vocab_size=size - len(spelling) + 1, special_tokens=[unk], unk_token=unk, show_progress=False
    )
    learnt = _train(library, library.models.Unigram(), trainer, texts)["vocab"]
    # Rounded, because the trainer adds floats in an order that changes from run to run.
    pieces = [(token, round(score, 4)) for token, score in learnt if token not in _RESERVED]
    pieces += [(token, min((score for _, score in pieces), default=0.0) - 1) for token in spelling]
    pieces.sort(key=lambda piece: (-piece[1], piece[0]))
    never = [(token, _NEVER) for token in (*SPECIALS, *BYTES)]
    return library.models.Unigram([*never, *pieces], unk_id=UNK, byte_fallback=True)
