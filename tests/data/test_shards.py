import gzip
import json
import os
import tracemalloc

import dragoman as dg
import numpy as np
import pytest
from dragoman.data.batches import Batches
from dragoman.data.columns import Table
from dragoman.data.pairs import encode_pairs, pair_costs
from dragoman.data.shards import Shards, tokenize, write_shards
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


def encoded(tokenizer, texts):
    return list(zip(*encode_pairs(tokenizer, texts).values(), strict=True))


def test_shards_are_the_encoded_pairs(shards, tokenizer, corpus, texts):
    assert read_parallel(*corpus) == texts
    pairs = encoded(tokenizer, texts)
    assert len(shards) == len(pairs) == 900
    assert shards[:] == pairs
    assert shards[17] == pairs[17]
    assert shards[-1] == pairs[-1]
    assert shards[98:103] == pairs[98:103]
    assert shards.take([3, 0]) == {"source": [pairs[3][0], pairs[0][0]], "target": [pairs[3][1], pairs[0][1]]}
    with pytest.raises(IndexError):
        shards[900]


def test_batches_are_those_of_the_pairs_in_memory(shards, tokenizer, texts):
    limits = {"max_length": 30, "min_length": 3, "max_ratio": 3.0}
    table = Table(encode_pairs(tokenizer, texts))
    mapped, listed = (Batches(rows, lambda n: pair_costs(**n, **limits), 500, seed=5) for rows in (shards, table))
    assert 0 < mapped.dropped == listed.dropped
    for epoch in (0, 3):
        assert list(mapped.epoch(epoch)) == list(listed.epoch(epoch))
    batch = mapped.epoch(3)[1]
    assert shards.take(batch) == table.take(batch)
    assert mapped.padding(dict) == listed.padding(dict)
    assert shards.digests() == table.digests()


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
    assert again[:] == encoded(other, texts[500:])


def test_a_damaged_folder_is_made_again(shards, tokenizer, corpus, texts):
    pairs = encoded(tokenizer, texts)
    index = shards.folder / "data.json"
    for damage in (
        lambda: index.write_text("{"),
        lambda: index.write_text("[]"),
        lambda: index.write_text(json.dumps({**json.loads(index.read_text()), "rows": -1})),
        lambda: os.truncate(shards.folder / "target.ids", 100),
        lambda: (shards.folder / "source.offsets").unlink(),
    ):
        damage()
        with pytest.raises((ValueError, OSError)):
            Shards(shards.folder)
        assert tokenize(tokenizer, *corpus, shards.folder)[::10] == pairs[::10]


def test_a_broken_run_leaves_the_old_shards_or_none(shards, tokenizer, corpus, tmp_path):
    source, target = corpus
    target[0].write_bytes(target[0].read_bytes() + b"\xff\n")
    before = shards[:]
    for folder in (shards.folder, tmp_path / "new"):
        with pytest.raises(ValueError, match=r"line 501 is not UTF-8|has 501"):
            tokenize(tokenizer, source, target, folder)
    assert Shards(shards.folder)[:] == before
    assert not (tmp_path / "new").exists()


def test_shards_in_use_do_not_change(shards, tokenizer, corpus):
    # A run that is resumed with the wrong files writes other shards: the run that is still at work must not see them.
    before = shards[:]
    other = tokenize(tokenizer, corpus[1], corpus[0], shards.folder)
    assert shards[:] == before
    assert other[:] == Shards(shards.folder)[:] != before


def test_shards_of_an_older_version_are_made_again(shards, tokenizer, corpus, texts):
    index = shards.folder / "data.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "format": "dragoman.data.shards.1", "pairs": 900}))
    assert tokenize(tokenizer, *corpus, shards.folder)[:] == encoded(tokenizer, texts)
    assert json.loads(index.read_text())["format"] == "dragoman.data.shards.2"


def test_columns_of_any_names_and_a_label_alone(tmp_path, rng):
    (tmp_path / "lines").write_text("\n")
    examples = [(rng.integers(0, 9, n).tolist(), [n % 3], [2**31 - 1] * (n % 2)) for n in range(250)]
    encode = lambda block: dict(zip(("tokens", "label", "odd"), map(list, zip(*block, strict=True)), strict=True))  # noqa: E731
    shards = write_shards(tmp_path / "data", {"data": tmp_path / "lines"}, {}, lambda: iter(examples), encode)
    assert shards.names == ("tokens", "label", "odd")
    assert shards[:] == examples
    assert shards[7:9] == examples[7:9]
    assert {name: lengths.tolist() for name, lengths in shards.lengths(5, 8).items()} == {
        "tokens": [5, 6, 7], "label": [1, 1, 1], "odd": [1, 0, 1],
    }  # fmt: skip
    assert shards.digests() == Table(encode(examples)).digests()
    with pytest.raises(ValueError, match="column tokens must hold integers of 32 bits"):
        write_shards(tmp_path / "x", {}, {}, lambda: [([2**31], [0], [])], encode)
    with pytest.raises(ValueError, match="x: no examples to write"):
        write_shards(tmp_path / "x", {}, {}, list, encode)


def test_a_digest_is_of_the_content(rng):
    cells = [rng.integers(0, 9, n).tolist() for n in (3, 3, 4, 0, 2)]
    digest = lambda cells: Table({"a": cells}).digests()["a"]  # noqa: E731
    assert digest(cells) == digest([np.array(ids) for ids in cells])
    others = [
        [cells[1], cells[0], *cells[2:]],
        [*cells[:-1], []],
        [cells[0] + cells[1][:1], cells[1][1:], *cells[2:]],  # the same ids, cut elsewhere
    ]
    assert len({digest(each) for each in [cells, *others]}) == 4


def test_memory_does_not_grow_with_the_reads(shards):
    # A mapping that is kept would add resident pages, an array would add traced memory.
    tracemalloc.start()
    for first in range(0, 900, 100):
        shards.take(range(first, first + 100))
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
