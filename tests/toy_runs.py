"""A model and data small enough to train in a test."""

import dragoman as dg

CONFIG = dg.TransformerConfig(
    vocab_size=20, d_model=32, num_heads=2, d_ff=64, num_encoder_layers=1, num_decoder_layers=1, dropout=0.2
)


def model_of(seed=0, config=CONFIG):
    dg.manual_seed(seed)
    return dg.Transformer(config)


def pairs_of(rng, count, longest=8, reverse=False):
    """Strings of symbols 4 to 19 and </s>; the target is the same string, or the reverse."""
    sources = [rng.integers(4, 20, rng.integers(1, longest + 1)).tolist() for _ in range(count)]
    return [([*ids, 2], ids[::-1] if reverse else ids) for ids in sources]
