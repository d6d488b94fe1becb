"""Which of the embeddings of an encoder-decoder are one tensor, by what is in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dragoman.interop.huggingface.weights import Tensors


@dataclass(frozen=True)
class Embeddings:
    """Where a file holds the embeddings and the output projection.

    Attributes:
        tie_embeddings: of TransformerConfig.
        names: rules that lead our parameters to their tensors.
        ignored: regexes of the tensors that are copies of those.
    """

    tie_embeddings: Literal["none", "two", "inputs", "three"]
    names: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]


def embeddings(tensors: Tensors, shared: str, encoder: str, decoder: str, head: str) -> Embeddings:
    """Finds the embeddings in a file.

    A tensor that is missing is the shared one; so is one with the same values. One with values of its own is kept
    apart, whatever config.json says. If the shared one is missing, the encoder's or the decoder's stands for it. The
    head never does: files of MADLAD-400 hold a head of its own and no shared tensor.

    Args:
        tensors: of the file.
        shared, encoder, decoder, head: names of theirs. Where the first two are the same, the sides share nothing.
    """
    base = next((name for name in (shared, encoder, decoder) if name in tensors), shared)
    source = base if tensors.tied(base, encoder) else encoder
    target = base if shared != encoder and tensors.tied(base, decoder) else decoder
    output = target if tensors.tied(target, head) else head
    inputs_tied, output_tied = source == target, output == target
    if inputs_tied:
        tie: Literal["none", "two", "inputs", "three"] = "three" if output_tied else "inputs"
    else:
        tie = "two" if output_tied else "none"
    # Parameters that are not there in a tied model have a name, too: the one to save them under.
    apart = target if not inputs_tied else decoder
    names = (
        (r"^src_embedding\.weight$", source),
        (r"^tgt_embedding\.weight$", apart),
        (r"^output\.weight$", head),
    )
    return Embeddings(tie, names, tuple(re.escape(name) for name in (shared, encoder, decoder, head)))
