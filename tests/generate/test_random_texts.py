"""Random texts and random bytes: each gives a translation, or one error that names its place.

DRAGOMAN_TEXTS=3000 makes as many calls in each test.
"""

import os
import random

import dragoman as dg
import pytest
from dragoman.cli.translate import texts_of

pytest.importorskip("tokenizers")

CALLS = int(os.environ.get("DRAGOMAN_TEXTS", "150"))
ALPHABETS = [
    range(0x110000),
    [ord(c) for c in " \t\n\r\0\u200b\u2028\ufeff\u00a0a"],
    [ord(c) for c in "a man sees two"],
    [0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x10FFFF, 0x301, 0x1100, ord("a")],
    range(32, 0x3000),
]
NAMES = ["<s>", "</s>", "<pad>", "<unk>", "<0x0A>", "\u2581", "\u2581\u2581 "]


@pytest.fixture(scope="module", params=["bpe", "char", "unigram"])
def translator(request):
    dg.manual_seed(1)
    tokenizer = dg.Tokenizer.train(["a man sees\n two dogs", "\u200b é"] * 3, 84, request.param)
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=16, num_heads=2, d_ff=16, num_encoder_layers=1, num_decoder_layers=1
    )
    return dg.Translator(dg.Transformer(config), tokenizer)


def random_text(rng):
    length = rng.choice([0, 1, 2, 5, 20, 60])
    if rng.random() < 0.2:
        return rng.choice(NAMES) * length
    alphabet = rng.choice(ALPHABETS)
    return "".join(chr(rng.choice(alphabet)) for _ in range(length))


@pytest.mark.usefixtures("one_thread")
def test_random_texts(translator):
    rng = random.Random(0)
    for _ in range(CALLS):
        texts = [random_text(rng) for _ in range(rng.randrange(1, 4))]
        halves = [i for i, text in enumerate(texts) if any(0xD800 <= ord(c) < 0xE000 for c in text)]
        options = {"beam": rng.choice([1, 2, 5]), "max_length": rng.choice([0, 1, 4])}
        if halves:
            with pytest.raises(ValueError, match=rf"text\[{halves[0]}\] must be Unicode text"):
                translator(texts, **options)
        else:
            found = translator.candidates(texts, **options)
            assert len(found) == len(texts)
            assert all(1 <= len(candidates) <= options["beam"] for candidates in found)


def test_random_bytes_as_lines():
    rng = random.Random(0)
    for _ in range(CALLS):
        data = b"a\n" + bytes(rng.choice(b"ab \n\n\r\xff\xc3\xa9\0") for _ in range(rng.randrange(60)))
        lines = data.removesuffix(b"\n").split(b"\n")
        good = next((i for i, line in enumerate(lines) if line != line.decode(errors="ignore").encode()), len(lines))
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        found = []
        try:
            for first, texts in texts_of(reader):
                assert first == len(found) + 1
                found += texts
        except ValueError as error:
            assert f"line {good + 1} is not UTF-8" in str(error)
        else:
            assert good == len(lines)
        finally:
            os.close(reader)
        assert found == [line.decode().rstrip("\r") for line in lines[:good]]
