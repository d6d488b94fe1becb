import gzip
import tracemalloc

import numpy as np
import pytest
from dragoman.data.batches import Batches, cut_batches
from dragoman.data.columns import Table, columns_of
from dragoman.data.pairs import SIDES, pair_costs
from dragoman.data.text import iter_parallel, read_lines, read_parallel, sample_lines


def pairs_of(lengths):
    return [([7] * source, [9] * target) for source, target in lengths]


def batches_of(pairs, batch_tokens, seed=0, **limits):
    costs = lambda lengths: pair_costs(lengths["source"], lengths["target"], **limits)  # noqa: E731
    rows = Table(columns_of(SIDES, pairs)) if isinstance(pairs, list) else pairs
    return Batches(rows, costs, batch_tokens, seed=seed, unit="pair", limits=str(limits))


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


def test_several_files_a_side(tmp_path):
    a, b, c, d = write(tmp_path, a=b"1\n2\n", b=b"3\n", c=b"x\ny", d=b"z\n")
    assert read_parallel([a, b], [c, d]) == [("1", "x"), ("2", "y"), ("3", "z")]
    with pytest.raises(ValueError, match=r"a has 2 lines, .*d has 1: they must pair up"):
        read_parallel([a, b], [d, c])
    with pytest.raises(ValueError, match=r"b has 1 lines, .*c has 2: they must pair up"):
        read_parallel([b, a], [c, d])
    with pytest.raises(ValueError, match="source has 2 files, target has 1"):
        read_parallel([a, b], c)


def test_reading_holds_a_line_at_a_time(tmp_path):
    (tmp_path / "a").write_bytes(b"word " * 20 + b"\n")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes() * 5_000)  # 0.5 MB
    tracemalloc.start()
    assert sum(1 for _ in iter_parallel(tmp_path / "a", tmp_path / "a")) == 5_000
    assert tracemalloc.get_traced_memory()[1] < 2e5
    tracemalloc.stop()


def test_a_sample_of_the_lines(tmp_path):
    lines = [f"line {i}" for i in range(2000)]
    (path,) = write(tmp_path, a="\n".join(lines).encode())
    size = path.stat().st_size
    assert list(sample_lines(path, size)) == lines
    sample = list(sample_lines([path, path], size))
    assert sample == list(sample_lines([path, path], size))
    assert set(sample) < set(lines)
    assert 0.8 * 2000 < len(sample) < 1.2 * 2000


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
    batches = batches_of(pairs, 500, seed=3)
    for epoch in range(3):
        order = batches.epoch(epoch)
        assert sorted(i for batch in order for i in batch) == list(range(len(pairs)))
        for batch in order:
            # The target's </s> is predicted too, so it counts.
            assert sum(max(len(pairs[i][0]), len(pairs[i][1]) + 1) for i in batch) <= 500


def test_the_batches_are_those_of_a_plain_loop(pairs):
    batches = batches_of(pairs, 500)
    costs = batches.costs.tolist()
    assert costs == [max(len(source), len(target) + 1) for source, target in pairs]
    # One pool holds them all. Of batches with only one cost, the last is the shorter one.
    epoch = sorted(batches.epoch(0), key=lambda batch: (costs[batch[0]], costs[batch[-1]], -len(batch)))
    order = [i for batch in epoch for i in batch]
    assert [costs[i] for i in order] == sorted(costs)
    assert epoch == cut_batches(order, costs, 500)


def test_batches_are_full(pairs):
    batches = batches_of(pairs, 500)
    assert len(batches.epoch(0)) < 1.2 * sum(batches.costs) / 500


def test_batches_hold_similar_lengths(pairs):
    batches = batches_of(pairs, 500)
    spread = np.mean([np.ptp([batches.costs[i] for i in batch]) for batch in batches.epoch(0)])
    assert spread < 0.2 * np.ptp(batches.costs)


def test_the_order_depends_on_seed_and_epoch_alone(pairs):
    batches = batches_of(pairs, 500, seed=1)
    batches.epoch(0)
    order = list(batches.epoch(5))
    assert order == list(batches_of(pairs, 500, seed=1).epoch(5))
    assert order != list(batches.epoch(6))
    assert order == list(batches.epoch(5))
    assert order != list(batches_of(pairs, 500, seed=2).epoch(5))


def test_an_order_is_a_sequence(pairs):
    order = batches_of(pairs, 500).epoch(0)
    assert order[2:5] == [order[2], order[3], order[4]]
    assert order[-1] == list(order)[-1]
    assert order[len(order) - 1 : len(order) + 9] == [order[-1]]
    assert all(type(i) is int for i in order[0])
    with pytest.raises(IndexError):
        order[len(order)]


def test_batches_are_not_in_order_of_length(pairs):
    batches = batches_of(pairs, 500)
    means = [np.mean([batches.costs[i] for i in batch]) for batch in batches.epoch(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5


def test_drops_and_counts_long_pairs():
    batches = batches_of(pairs_of([(5, 5), (11, 2), (2, 10), (10, 9), (1, 1)]), 50, max_length=10)
    assert batches.dropped == 2
    assert batches.kept.tolist() == [0, 3, 4]
    assert batches.costs.tolist() == [6, 0, 0, 10, 2]
    assert sorted(i for batch in batches.epoch(0) for i in batch) == [0, 3, 4]


def test_drops_short_and_uneven_pairs():
    pairs = pairs_of([(1, 5), (5, 1), (4, 8), (8, 3), (3, 2)])  # the targets count one more, for </s>
    assert batches_of(pairs, 50, min_length=3).kept.tolist() == [2, 3, 4]
    assert batches_of(pairs, 50, max_ratio=2).kept.tolist() == [3, 4]
    assert batches_of(pairs, 50, max_ratio=2, min_length=4).kept.tolist() == [3]
    with pytest.raises(ValueError, match=r"batches: no pairs are left of 5 \({'max_length': 2}\)"):
        batches_of(pairs, 50, max_length=2)


def test_long_sources_are_cut():
    pairs = [([5] * n + [2], [6] * m) for n, m in ((3, 3), (20, 3), (9, 4), (10, 9), (30, 10))]
    batches = batches_of(pairs, 30, max_length=10, max_source_length=10)
    assert batches.costs.tolist() == [4, 10, 10, 10, 0]


def test_costs_of_large_batches():
    batches = batches_of(pairs_of([(70_000, 5), (5, 5)]), 100_000)
    assert batches.costs.tolist() == [70_000, 6]


def test_padding_of_rectangles():
    # One batch: sources of 1, 2 and 6 of 6, targets of 2, 2 and 2 of 2.
    batches = batches_of(pairs_of([(1, 2), (2, 2), (6, 2)]), 99)
    assert batches.padding(dict) == pytest.approx((18 + 6) / (9 + 6) - 1)
    assert batches_of(pairs_of([(4, 3)] * 5000), 40).padding(dict) == 0


def test_memory_of_an_order():
    class Store:
        def __len__(self):
            return 300_000

        def lengths(self, first, last):
            lengths = np.random.default_rng(first).integers(5, 60, last - first)
            return {"source": lengths, "target": lengths}

    tracemalloc.start()
    batches = batches_of(Store(), 4096)
    order = batches.epoch(0)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(order) > 300_000 * 30 / 4096
    assert held < 8 * 300_000  # 2 bytes of costs, 4 of order, and the ends of the batches
    assert peak < 60 * 300_000  # a block of 64-bit numbers


def test_names_a_pair_beyond_the_budget():
    with pytest.raises(ValueError, match=r"pair 2 has 31 tokens, more than batch_tokens=30"):
        batches_of(pairs_of([(5, 5), (3, 30)]), 30)
    with pytest.raises(ValueError, match="no pairs are left of 1"):
        batches_of(pairs_of([(5, 5)]), 30, max_length=5)


def test_a_table_takes_rows():
    table = Table({"source": [[1, 2], [4]], "target": [[3], [5, 6]]})
    assert table.take([1, 0]) == {"source": [[4], [1, 2]], "target": [[5, 6], [3]]}
    assert table.names == ("source", "target")
    with pytest.raises(ValueError, match="Table: columns must have one length, got "):
        Table({"a": [[1]], "b": []})


def test_cut_batches():
    assert cut_batches([0, 1, 2, 3], [4, 3, 9, 1], 7) == [[0, 1], [2], [3]]
    assert cut_batches([], [], 7) == []


@pytest.mark.parametrize("costs", [[5], [5, 0, -1], [5.0, 1.0, 1.0], 5])
def test_costs_that_are_no_cost_of_each_row_are_refused(costs):
    rows = Table(columns_of(SIDES, pairs_of([(1, 2)] * 3)))
    with pytest.raises(ValueError, match="batches: costs must return 3 ints of at least 0, got "):
        Batches(rows, lambda lengths: np.array(costs), 100)
