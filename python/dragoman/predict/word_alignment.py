"""Word alignments: the word of a source that a translator looks at most for each word of a translation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dragoman.data.columns import Ids
from dragoman.data.frame import Frame
from dragoman.data.tokenizer import Tokenizer
from dragoman.generate.aligning import ChosenHeads, mean_weights
from dragoman.generate.scoring import passes
from dragoman.models.encoder_decoder import Transformer

Alignment = list[tuple[int, int]]  # place of a word of the source, place of a word of the translation


def words_of_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """For each token of a text, the place of the word that it is of; a space is of the next word."""
    (text,) = tokenizer.trimmed([text])
    words: list[int] = []  # of each character
    count, inside = 0, False
    for character in text:
        begins = not character.isspace()
        count += begins and not inside
        inside = begins
        words.append(count - inside)
    return [words[min(start, len(words) - 1)] for start, _ in tokenizer.spans(text)]


def align_words(
    op: str,
    model: Transformer,
    pairs: Sequence[tuple[Ids, Ids]],
    words: Sequence[Sequence[Sequence[int]]],
    frame: Frame,
    chosen: Sequence[ChosenHeads],
    tokens: int,
) -> list[Alignment]:
    """The alignment of each pair, whose tokens are of these words; the special ids around a source are of none.

    Args:
        pairs: ids of a source with its eos, and of a translation without; they may be cut.
        words: of both texts, as of `words_of_tokens`.
        frame: of the sources.
        chosen: as of `aligning_heads`.
        tokens: maximum number of tokens that the model reads together; a longer pair is read alone.

    Raises:
        FloatingPointError: a weight is NaN.
    """
    found: list[Alignment] = []
    for batch in passes([[*source, *output] for source, output in pairs], tokens):
        sources, outputs = zip(*(pairs[i] for i in batch), strict=True)
        for i, weights in zip(batch, mean_weights(op, model, sources, outputs, chosen), strict=True):
            if not np.isfinite(weights).all():
                raise FloatingPointError(f"{op}: attention weights are not finite")
            inner = slice(len(frame.prefix), weights.shape[1] - len(frame.suffix))
            found.append(_alignment(weights[:-1, inner], *words[i]))
    return found


def _alignment(weights: npt.NDArray[np.float32], source: Sequence[int], output: Sequence[int]) -> Alignment:
    """Of weights (tokens of the output, tokens of the source), which are added up word by word."""
    rows, columns = np.array(output[: len(weights)]), np.array(source[: weights.shape[1]])
    if not rows.size or not columns.size:
        return []
    sums = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(sums, (rows[:, None], columns), weights)
    return sorted((int(sums[row].argmax()), int(row)) for row in np.unique(rows))
