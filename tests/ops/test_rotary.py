"""rotary against the reference, against complex numbers, and what it does to scores."""

import dragoman as dg
import numpy as np
import pytest
import reference
from dragoman.nn.rotary import rotary_table
from gradcheck import check_by_differences, check_op


def angles_of(lengths, features, starts=None, base=10000.0):
    position = np.concatenate([np.arange(n) + s for n, s in zip(lengths, starts or [0] * len(lengths), strict=True)])
    return position[:, None] * base ** (-2.0 * np.arange(features // 2) / features)


@pytest.mark.parametrize(
    ("lengths", "heads", "head_dim", "features", "starts"),
    [
        ([1], 1, 2, 2, None),
        ([31, 0, 33], 3, 34, 34, None),
        ([5, 70], 2, 64, 16, [3, 0]),
        ([4, 1], 1, 7, 0, None),
        ([300], 5, 23, 22, [700]),
    ],
    ids=str,
)
@pytest.mark.parametrize("tail", [0, 3])
def test_matches_reference(rng, lengths, heads, head_dim, features, starts, tail):
    table = dg.tensor(rotary_table(1000, features))
    sequences = dg.Sequences(lengths, capacity=sum(lengths) + tail)
    angles = angles_of(lengths, features, starts)
    check_op(
        lambda x: dg.functional.rotary(x, table, sequences, head_dim=head_dim, starts=starts),
        lambda x: reference.rotary(x, angles),
        lambda dy, x: reference.rotary_backward(dy, x, angles),
        [rng.standard_normal((sum(lengths), heads, head_dim))],
        tail=tail,
    )


def test_bfloat16_and_finite_differences(rng):
    lengths, features = [3, 2], 4
    table, angles = dg.tensor(rotary_table(8, features)), angles_of([3, 2], features)
    for dtype in ("float32", "bfloat16"):
        check_by_differences(
            lambda x: dg.functional.rotary(x, table, dg.Sequences(lengths), head_dim=6),
            lambda x: reference.rotary(x.reshape(5, 2, 6), angles).reshape(5, 12),
            [rng.standard_normal((5, 12))],
            dtype,
        )


def test_is_a_product_of_complex_numbers(rng):
    """Pair (a, b) as a + bi, times e^(i angle)."""
    x = rng.standard_normal((9, 2, 10)).astype(np.float32)
    y = dg.functional.rotary(dg.tensor(x), dg.tensor(rotary_table(9, 10)), dg.Sequences([9]), head_dim=10).numpy()
    turned = (x[..., :5] + 1j * x[..., 5:]) * np.exp(1j * angles_of([9], 10))[:, None]
    np.testing.assert_allclose(y, np.concatenate([turned.real, turned.imag], -1), atol=1e-5)


def test_scores_depend_on_the_distance_alone(rng):
    """The same queries and keys at other positions have the same scores."""
    q, k = (dg.tensor(np.repeat(rng.standard_normal((1, 1, 8)), 6, 0).astype(np.float32)) for _ in range(2))
    table = dg.tensor(rotary_table(100, 8))

    def scores(start):
        turned = [
            dg.functional.rotary(x, table, dg.Sequences([6]), head_dim=8, starts=[start]).numpy()[:, 0] for x in (q, k)
        ]
        return turned[0] @ turned[1].T

    np.testing.assert_allclose(scores(0), scores(77), atol=1e-5)
    np.testing.assert_allclose(np.diag(scores(3), 2), scores(3)[0, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": (5,)}, ValueError, r"rotary: x must have 2 or 3 dimensions, got shape \(5,\)"),
        ({"head_dim": 3}, ValueError, r"rotary: head_dim must divide the columns of x.*got 3 for shape \(5, 8\)"),
        ({"x": (5, 2, 8)}, ValueError, r"rotary: head_dim must divide the columns.*got 4 for shape \(5, 2, 8\)"),
        ({"table": (9, 3)}, ValueError, r"rotary: table must have an even number of columns.*got shape \(9, 3\)"),
        ({"table": (9, 6)}, ValueError, r"rotary: table must have .* at most head_dim 4, got shape \(9, 6\)"),
        ({"table": (4, 2)}, ValueError, r"rotary: table must have at least 5 rows for sequence 0"),
        ({"starts": [5]}, ValueError, r"rotary: table must have at least 10 rows for sequence 0 \(start 5"),
        ({"starts": [-1]}, ValueError, r"rotary: starts must lie in .*got -1"),
        ({"starts": [0, 1]}, ValueError, r"rotary: starts must have shape \(1,\), got \(2,\)"),
        ({"lengths": [4]}, ValueError, r"rotary: sequences must have capacity 5"),
    ],
    ids=str,
)
def test_errors_name_the_argument(change, error, message):
    x, table = (dg.tensor(np.ones(change.get(name, shape))) for name, shape in {"x": (5, 8), "table": (9, 4)}.items())
    options = {"head_dim": change.get("head_dim", 4), "starts": change.get("starts")}
    with pytest.raises(error, match=message):
        dg.functional.rotary(x, table, dg.Sequences(change.get("lengths", [5])), **options)


def test_a_table_has_no_gradient():
    x, table = dg.tensor(np.ones((2, 4))), dg.tensor(np.ones((2, 4)), requires_grad=True)
    with pytest.raises(ValueError, match="rotary: table must require no gradient"):
        dg.functional.rotary(x, table, dg.Sequences([2]), head_dim=4)
