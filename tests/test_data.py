import gzip

import numpy as np
import pytest
from dragoman.data import Batches, cut_batches, read_lines, read_parallel


def pairs_of(lengths):
    return [([7] * source, [9] * target) for source, target in lengths]


@pytest.fixture
def pairs(rng):
    return pairs_of(rng.integers(1, 60, (997, 2)).tolist())


def test_reads_plain_and_gzip(tmp_path):
    text = "eins\nzwei ü drei\r\nvier\u2028fünf"  # U+2028 is no line ending
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode() + b"\n"))
    assert read_lines(tmp_path / "a") == ["eins", "zwei ü drei", "vier\u2028fünf"]
    assert read_lines(tmp_path / "a.gz") == read_lines(tmp_path / "a")


def write(folder, **files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


@pytest.mark.parametrize(
    "source, target, message",
    [
        (b"a\nb\n", b"c\n", "source has 2 lines, .*target has 1"),
        (b"a\n  \n", b"b\nc\n", "source: line 2 is empty"),
        (b"a\nb\n", b"b\n\n", "target: line 2 is empty"),
        (b"a\nb\n", b"b\n\xff\n", "target: line 2 is not UTF-8"),
        (b"", b"", "source has no lines"),
    ],
)
def test_names_what_is_wrong(source, target, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_parallel(*write(tmp_path, source=source, target=target))


def test_names_a_missing_and_a_broken_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_parallel(tmp_path / "nothing", tmp_path / "nothing")
    whole = gzip.compress(bytes(range(256)) * 9)
    for broken in (b"no gzip", whole[:40], whole[:30] + b"\0\0\0\0" + whole[34:]):
        path = tmp_path / "broken.gz"
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"broken\.gz: not a gzip file"):
            read_lines(path)


def test_an_epoch_holds_every_pair_once_within_the_budget(pairs):
    batches = Batches(pairs, 500, seed=3)
    for epoch in range(3):
        order = batches.epoch(epoch)
        assert sorted(i for batch in order for i in batch) == list(range(len(pairs)))
        for batch in order:
            # The target's </s> is predicted too, so it counts.
            assert sum(max(len(pairs[i][0]), len(pairs[i][1]) + 1) for i in batch) <= 500
    assert sorted(i for batch in batches.in_order() for i in batch) == list(range(len(pairs)))


def test_batches_are_full(pairs):
    batches = Batches(pairs, 500)
    assert len(batches.epoch(0)) < 1.2 * sum(batches.costs) / 500


def test_batches_hold_similar_lengths(pairs):
    batches = Batches(pairs, 500)
    spread = np.mean([np.ptp([batches.costs[i] for i in batch]) for batch in batches.epoch(0)])
    assert spread < 0.2 * np.ptp(batches.costs)


def test_the_order_depends_on_seed_and_epoch_alone(pairs):
    batches = Batches(pairs, 500, seed=1)
    batches.epoch(0)
    assert batches.epoch(5) == Batches(pairs, 500, seed=1).epoch(5)
    assert batches.epoch(5) != batches.epoch(6)
    assert batches.epoch(5) != Batches(pairs, 500, seed=2).epoch(5)


def test_batches_are_not_in_order_of_length(pairs):
    batches = Batches(pairs, 500)
    means = [np.mean([batches.costs[i] for i in batch]) for batch in batches.epoch(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_drops_and_counts_long_pairs():
    batches = Batches(pairs_of([(5, 5), (11, 2), (2, 10), (10, 9), (1, 1)]), 50, max_length=10)
    assert batches.dropped == 2
    assert sorted(i for batch in batches.epoch(0) for i in batch) == [0, 3, 4]


def test_names_a_pair_beyond_the_budget():
    with pytest.raises(ValueError, match=r"pair 2 has 31 tokens, more than batch_tokens=30"):
        Batches(pairs_of([(5, 5), (3, 30)]), 30)
    with pytest.raises(ValueError, match="no pairs are left of 1"):
        Batches(pairs_of([(5, 5)]), 30, max_length=5)


def test_sides():
    batches = Batches([([1, 2], [3]), ([4], [5, 6])], 10)
    assert batches.sides([1, 0]) == ([[4], [1, 2]], [[5, 6], [3]])


def test_cut_batches():
    assert cut_batches([0, 1, 2, 3], [4, 3, 9, 1], 7) == [[0, 1], [2], [3]]
    assert cut_batches([], [], 7) == []
