import gzip
import json
import os
import tracemalloc

import dragoman as dg
import numpy as np
import pytest
from dragoman.data.batches import Batches, encode_pairs
from dragoman.data.shards import Shards, tokenize
from dragoman.data.text import read_parallel
from dragoman.data.tokenizer import Tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("dragoman.data.shards._BLOCK", 100)


@pytest.fixture(scope="module")
def texts():
    words = "ein kleiner Hund läuft schnell über die grüne Wiese".split()  # noqa: SIM905
    rng = np.random.default_rng(1)
    line = lambda: " ".join(rng.choice(words, rng.integers(1, 12)))  # noqa: E731
    return [(line(), line()) for _ in range(900)]  # several blocks


@pytest.fixture(scope="module")
def tokenizer(texts):
    return Tokenizer.train((line for pair in texts[:500] for line in pair), 100)


@pytest.fixture
def corpus(texts, tmp_path):
    """Two files on each side, one of them gzipped."""
    files = []
    for side, name in enumerate(("en", "de")):
        halves = ["".join(f"{pair[side]}\n" for pair in half) for half in (texts[:500], texts[500:])]
        (tmp_path / name).write_text(halves[0])
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(halves[1].encode()))
        files.append([tmp_path / name, tmp_path / f"{name}.gz"])
    return files


@pytest.fixture
def shards(tokenizer, corpus, tmp_path):
    return tokenize(tokenizer, *corpus, tmp_path / "data")


def test_shards_are_the_encoded_pairs(shards, tokenizer, corpus, texts):
    assert read_parallel(*corpus) == texts
    pairs = encode_pairs(tokenizer, texts)
    assert len(shards) == len(pairs) == 900
    assert shards[:] == pairs
    assert shards[17] == pairs[17]
    assert shards[-1] == pairs[-1]
    assert shards[98:103] == pairs[98:103]
    assert shards.sides([3, 0]) == ([pairs[3][0], pairs[0][0]], [pairs[3][1], pairs[0][1]])
    with pytest.raises(IndexError):
        shards[900]


def test_batches_are_those_of_the_pairs_in_memory(shards, tokenizer, texts):
    pairs = encode_pairs(tokenizer, texts)
    options = {"max_length": 30, "min_length": 3, "max_ratio": 3.0, "seed": 5}
    mapped, listed = Batches(shards, 500, **options), Batches(pairs, 500, **options)
    assert 0 < mapped.dropped == listed.dropped
    for epoch in (0, 3):
        assert list(mapped.epoch(epoch)) == list(listed.epoch(epoch))
    batch = mapped.epoch(3)[1]
    assert mapped.sides(batch) == listed.sides(batch)
    assert mapped.padding() == listed.padding()


def made(folder):
    return (folder / "source.ids").stat().st_ino, (folder / "source.ids").stat().st_mtime_ns


def test_shards_of_the_same_are_used_again(shards, tokenizer, corpus, texts):
    before = made(shards.folder)
    assert len(tokenize(tokenizer, *corpus, shards.folder)) == 900
    assert made(shards.folder) == before


def test_shards_of_something_else_are_made_again(shards, tokenizer, corpus, texts):
    (source, packed), target = corpus
    os.utime(source, ns=(0, 0))
    before = made(shards.folder)
    tokenize(tokenizer, *corpus, shards.folder)
    assert made(shards.folder) != before
    assert len(tokenize(tokenizer, packed, target[1], shards.folder)) == 400
    other = Tokenizer.train([line for pair in texts for line in pair], 150)
    again = tokenize(other, packed, target[1], shards.folder)
    assert again[:] == encode_pairs(other, texts[500:])


def test_a_damaged_folder_is_made_again(shards, tokenizer, corpus, texts):
    pairs = encode_pairs(tokenizer, texts)
    index = shards.folder / "data.json"
    for damage in (
        lambda: index.write_text("{"),
        lambda: index.write_text("[]"),
        lambda: index.write_text(json.dumps({**json.loads(index.read_text()), "pairs": -1})),
        lambda: os.truncate(shards.folder / "target.ids", 100),
        lambda: (shards.folder / "source.offsets").unlink(),
    ):
        damage()
        with pytest.raises((ValueError, OSError)):
            Shards(shards.folder)
        assert tokenize(tokenizer, *corpus, shards.folder)[::10] == pairs[::10]


def test_a_broken_run_leaves_no_shards(shards, tokenizer, corpus):
    source, target = corpus
    target[0].write_bytes(target[0].read_bytes() + b"\xff\n")
    with pytest.raises(ValueError, match=r"line 501 is not UTF-8|has 501"):
        tokenize(tokenizer, source, target, shards.folder)
    with pytest.raises(FileNotFoundError):
        Shards(shards.folder)


def test_memory_does_not_grow_with_the_reads(shards):
    # A mapping that is kept would add resident pages, an array would add traced memory.
    tracemalloc.start()
    for first in range(0, 900, 100):
        shards.sides(range(first, first + 100))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1e5
    with open("/proc/self/maps") as maps:
        assert str(shards.folder) not in maps.read()


def test_tells_how_far_it_is(tokenizer, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("dragoman.data.shards._REPORT_SECONDS", 0)
    told = []
    tokenize(tokenizer, *corpus, tmp_path / "data", told.append)
    assert told == [f"{count} pairs tokenized" for count in range(100, 1000, 100)]


SMALL = {"d_model": 16, "num_heads": 2, "d_ff": 32, "num_encoder_layers": 1, "num_decoder_layers": 1}


def test_training_on_shards_is_training_on_the_pairs(shards, tokenizer, texts):
    records = []
    for pairs in (shards, texts):
        dg.manual_seed(0)
        model = dg.Transformer(dg.TransformerConfig(vocab_size=tokenizer.vocab_size, **SMALL))
        trainer = dg.Trainer(model, tokenizer=tokenizer, batch_tokens=300, max_steps=3, log_interval=1, warmup=5)
        records.append([record["loss"] for record in trainer.fit(pairs)])
    assert records[0] == records[1]
    assert len(records[0]) == 3


def test_sources_of_more_than_a_thousand_tokens(tokenizer, tmp_path):
    for name, line in (("en", "ein Hund " * 700), ("de", "läuft schnell")):
        (tmp_path / name).write_text(f"{line}\n" * 4)
    shards = tokenize(tokenizer, tmp_path / "en", tmp_path / "de", tmp_path / "data")
    assert len(shards[0][0]) > 1024
    for positions in ("sinusoidal", "learned"):
        config = dg.TransformerConfig(vocab_size=tokenizer.vocab_size, positions=positions, max_length=1024, **SMALL)
        trainer = dg.Trainer(dg.Transformer(config), batch_tokens=4096, max_length=2048, max_steps=1, log_interval=1)
        if positions == "learned":
            with pytest.raises(ValueError, match=r"at most 1024 tokens, got \d+"):
                trainer.fit(shards)
        else:
            assert np.isfinite(trainer.fit(shards)[0]["loss"])
