"""An untrained translator of a few words."""

import dragoman as dg

LINES = ["a man sees two dogs", "two dogs see a man", "a dog"]


def make_translator(lines=LINES):
    """(model, tokenizer)"""
    dg.manual_seed(3)
    tokenizer = dg.Tokenizer.train(lines * 3, 64)
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1, num_decoder_layers=1
    )
    return dg.Transformer(config), tokenizer


def write_translator(folder, lines=LINES):
    """Writes both to a folder, and returns it."""
    model, tokenizer = make_translator(lines)
    model.save(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def tokens_of(adapter, text):
    """The tokens of a text, as programs written for CTranslate2 give them."""
    tokenizer = adapter._served.tokenizer
    return tokenizer.tokens(tokenizer.encode(text))
