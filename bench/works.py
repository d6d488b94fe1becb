"""The work that the benchmarks share: models, and batches of random token ids."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

Pair = tuple[list[int], list[int]]  # source, and target without bos and eos
Batch = list[Pair]

BOS, EOS, FIRST_WORD = 1, 2, 4
BATCH_TOKENS = 4096  # of a ragged batch, each pair counting its longer side
# Frequency of each length, invented to resemble captions of pictures: most are short, few are long.
LENGTHS = {
    4: 1, 5: 4, 6: 12, 7: 28, 8: 54, 9: 84, 10: 107, 11: 118, 12: 118, 13: 106, 14: 90, 15: 73, 16: 58, 17: 45,
    18: 35, 19: 27, 20: 20, 21: 15, 22: 12, 23: 9, 24: 7, 25: 5, 26: 4, 28: 3, 30: 2, 33: 2, 37: 1, 44: 1,
}  # fmt: skip
CHANGES = {-3: 1, -2: 3, -1: 6, 0: 8, 1: 6, 2: 3, 3: 1}  # how much longer the translation is


@dataclass(frozen=True)
class Model:
    """A post-norm encoder-decoder with one matrix for all embeddings, or GPT-2. Where it trains, it has the final norms
    of torch.nn.Transformer."""

    layers: int  # of the encoder, and of the decoder
    d_model: int
    num_heads: int
    d_ff: int
    vocab_size: int
    batch: int  # sentence pairs of the rectangular work
    length: int  # tokens of each source and each target
    decoder_only: bool = False


MODELS = {
    "big": Model(6, 1024, 16, 4096, 32000, batch=64, length=64),
    "base": Model(6, 512, 8, 2048, 32000, batch=32, length=64),
    "small": Model(4, 256, 4, 1024, 8000, batch=64, length=32),
    "gpt2": Model(12, 768, 12, 3072, 50257, batch=8, length=64, decoder_only=True),
    "tiny": Model(2, 64, 2, 128, 500, batch=8, length=16),  # to try the benchmarks out
    "tiny_gpt2": Model(2, 64, 2, 128, 500, batch=8, length=16, decoder_only=True),
}
ORDERS = ("rectangle", "random", "sorted")


def make_batches(model: Model, order: str, count: int) -> list[Batch]:
    """`count` batches (sorted ones may need one more), the same ones at every call.

    "rectangle": one batch of `model.batch` pairs, again and again. "random": pairs of LENGTHS as they come. "sorted":
    the same pairs, neighbours in length together, the batches in random order.
    """
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(FIRST_WORD, model.vocab_size) for _ in range(length)]

    if order == "rectangle":
        return [[(ids(model.length), ids(model.length - 1)) for _ in range(model.batch)]] * count
    lengths = [_ragged_lengths(rng) for _ in range(count * BATCH_TOKENS // 10)]
    lengths = [length for batch in list(_cut(lengths))[:count] for length in batch]
    if order == "sorted":
        lengths.sort(key=max)
    batches = [[(ids(source), ids(target - 1)) for source, target in batch] for batch in _cut(lengths)]
    if order == "sorted":
        rng.shuffle(batches)
    return batches


def count_tokens(batch: Batch) -> int:
    """Source tokens, and target tokens with the eos after them."""
    return sum(len(source) + len(target) + 1 for source, target in batch)


def _ragged_lengths(rng: random.Random) -> tuple[int, int]:
    (source,) = rng.choices(list(LENGTHS), list(LENGTHS.values()))
    (change,) = rng.choices(list(CHANGES), list(CHANGES.values()))
    return source, min(max(source + change, min(LENGTHS)), max(LENGTHS))


def _cut(lengths: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    batch: list[tuple[int, int]] = []
    tokens = 0
    for pair in lengths:
        if tokens + max(pair) > BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(pair)
        tokens += max(pair)
    yield batch
