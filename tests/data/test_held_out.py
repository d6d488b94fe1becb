import numpy as np
import pytest
from dragoman.data import Dataset, Table, hold_out, write_shards


@pytest.fixture(params=["table", "shards"])
def dataset(request, rng, tmp_path):
    columns = {name: [rng.integers(9, size=n).tolist() for n in rng.integers(1, 5, 53)] for name in ("a", "b")}
    if request.param == "table":
        return Table(columns)
    return write_shards(
        tmp_path, {}, {}, lambda: range(53), lambda rows: {n: [c[i] for i in rows] for n, c in columns.items()}
    )


def rows_of(part):
    return [(tuple(a), tuple(b)) for a, b in part]


def test_the_parts_hold_every_row_once(dataset):
    whole = [(tuple(a), tuple(b)) for a, b in zip(*dataset.take(range(53)).values(), strict=True)]
    train, held_out = hold_out(dataset, 0.1)
    assert (len(train), len(held_out)) == (48, 5)
    assert sorted(rows_of(train) + rows_of(held_out)) == sorted(whole)
    assert [row for row in whole if row in set(rows_of(train))][:9] == rows_of(train)[:9]  # in their order


def test_a_part_is_a_dataset(dataset):
    for part in hold_out(dataset, 0.4):
        assert isinstance(part, Dataset)
        assert part.names == ("a", "b")
        rows = rows_of(part)
        for first, last in ((0, len(part)), (3, 7), (2, 2)):
            assert part.lengths(first, last)["b"].tolist() == [len(b) for _, b in rows[first:last]]
        assert [tuple(cell) for cell in part.take([4, 0])["a"]] == [rows[4][0], rows[0][0]]
        assert rows_of(part[1:4]) == rows[1:4]
        assert rows_of([part[-1]]) == rows[-1:]
        with pytest.raises(IndexError):
            part[len(part)]


def test_the_parts_are_the_same_again_and_others_with_another_fraction(dataset):
    train, held_out = hold_out(dataset, 0.1)
    assert rows_of(hold_out(dataset, 0.1)[1]) == rows_of(held_out)
    assert hold_out(dataset, 0.1)[0].digests() == train.digests()
    assert set(train.digests().values()).isdisjoint(held_out.digests().values())
    assert train.digests() != hold_out(dataset, 0.2)[0].digests()


def test_small_datasets_and_bad_fractions():
    two = Table({"a": [[1], [2]]})
    assert [len(part) for part in hold_out(two, 1e-9)] == [1, 1]
    for fraction, rows in ((1.0, two), (2, two), (0.9, two), (0.1, Table({"a": [[1]]}))):
        with pytest.raises(ValueError, match=r"fraction must (leave a row to train with|lie in \[0, 1\)), got"):
            hold_out(rows, fraction)
    for fraction in (0, -0.5, np.nan):
        with pytest.raises(ValueError, match="hold_out: fraction must"):
            hold_out(two, fraction)
    with pytest.raises(TypeError, match="hold_out: fraction must be a number"):
        hold_out(two, "0.1")
