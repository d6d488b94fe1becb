"""embedding and the positional table against the reference."""

import dragoman as dg
import numpy as np
import pytest
import reference
from gradcheck import check_op, check_reference, next_mask


def place_in_sequence(lengths, starts=None):
    starts = [0] * len(lengths) if starts is None else starts
    return np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)]).astype(int)


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("with_positions", [True, False])
@pytest.mark.parametrize(
    ("lengths", "features", "tail"),
    [([1], 1, 0), ([30, 0, 1], 33, 4), ([0, 33], 31, 2), ([1000, 23], 17, 1), ([0], 5, 2)],
)
def test_matches_reference(rng, lengths, features, tail, with_positions, p):
    tokens = sum(lengths)
    ids = rng.integers(0, 50, tokens).astype(np.int32)
    place = place_in_sequence(lengths)
    mask = next_mask(tokens, features, p) if p else np.ones((tokens, features))
    sequences = dg.Sequences(lengths, capacity=tokens + tail)
    all_ids = np.concatenate([ids, np.full(tail, 2**31 - 1, np.int32)])
    check_op(
        lambda weight, positions: dg.functional.embedding(
            all_ids, weight, sequences, positions=positions, scale=2.5, dropout=p
        ),
        lambda weight, positions: (reference.embedding(weight, positions, ids, place, 2.5) * mask).astype(weight.dtype),
        lambda dy, weight, positions: reference.embedding_backward(
            (dy * mask).astype(dy.dtype), weight, positions, ids, place, 2.5
        ),
        [
            rng.standard_normal((50, features)),
            rng.standard_normal((1001, features)) if with_positions else None,
        ],
        rows=(),
        tail=tail,
    )


def test_reference_gradient(rng):
    ids, place = np.array([3, 0, 3, 1]), np.array([0, 1, 2, 0])
    check_reference(
        lambda weight, positions: reference.embedding(weight, positions, ids, place, 1.5),
        lambda dy, weight, positions: reference.embedding_backward(dy, weight, positions, ids, place, 1.5),
        [rng.standard_normal((4, 3)), rng.standard_normal((3, 3))],
    )


def test_starts_shift_the_positions(rng):
    """A sequence with n tokens in its cache continues at position n."""
    weight, positions = rng.standard_normal((9, 6)), rng.standard_normal((20, 6))
    ids = np.array([1, 2, 3, 4], np.int32)
    starts = np.array([5, 0, 16], np.int32)
    place = place_in_sequence([2, 1, 1], starts)
    check_op(
        lambda weight, positions: dg.functional.embedding(
            ids, weight, dg.Sequences([2, 1, 1]), positions=positions, starts=dg.tensor(starts)
        ),
        lambda weight, positions: reference.embedding(weight, positions, ids, place),
        lambda dy, weight, positions: reference.embedding_backward(dy, weight, positions, ids, place),
        [weight, positions],
        rows=(),
    )


@pytest.mark.parametrize(("count", "d_model"), [(1, 2), (33, 7), (300, 64)])
def test_sinusoidal_table_is_the_papers(count, d_model):
    table = dg.nn.SinusoidalPositionalEncoding(d_model)(count).numpy()
    np.testing.assert_allclose(table[:count], reference.sinusoidal_positions(count, d_model), atol=1e-6)


@pytest.mark.parametrize("repeats", [(1, 64, 65), (128, 129, 1), (200,)], ids=str)
def test_ids_that_repeat(rng, repeats):
    """A device adds the rows of an id in pieces of up to 64."""
    ids = rng.permutation(np.repeat(np.arange(len(repeats)) * 2, repeats)).astype(np.int32)
    check_op(
        lambda weight: dg.functional.embedding(ids, weight, dg.Sequences([len(ids)])),
        lambda weight: reference.embedding(weight, None, ids, 0 * ids),
        lambda dy, weight: reference.embedding_backward(dy, weight, None, ids, 0 * ids)[:1],
        [rng.standard_normal((6, 7))],
        rows=(),
    )


@pytest.mark.parametrize(
    ("ids", "lengths", "error", "message"),
    [
        ([1, 9], [2], ValueError, r"embedding: ids must lie in \[0, 9\).*got 9"),
        ([1, -1], [2], ValueError, r"embedding: ids must lie in \[0, 9\).*got -1"),
        ([1, 2], [3], ValueError, r"embedding: .*sequences must have capacity 2.*got 3"),
        ([0.5, 2.0], [2], TypeError, r"embedding: ids must be .*int"),
        ([1] * 6, [6], ValueError, r"embedding: positions must .*"),
    ],
)
def test_errors_name_the_argument(ids, lengths, error, message):
    weight = dg.tensor(np.ones((9, 4), np.float32))
    positions = dg.tensor(np.ones((5, 4), np.float32))
    with pytest.raises(error, match=message):
        dg.functional.embedding(np.array(ids), weight, dg.Sequences(lengths), positions=positions)
