"""Error messages: every argument of every public callable gets every kind of bad value. The call must raise a
ValueError or TypeError that names the argument. Unusual layouts, where they are allowed, give the same bits."""

import inspect
import re
from functools import partial

import dragoman as dg
import numpy as np
import public_calls
import pytest
from bad_values import ARRAY, PATH, floats, tensor
from public_calls import ARGUMENTS_LEFT_OUT, INNER, NOT_IN_TABLE, SIZES, TABLE, name_of

F = dg.functional


def takes_arguments(function):
    try:
        return bool(inspect.signature(function).parameters)
    except ValueError:  # a function of the core, or a builtin type
        return not isinstance(function, type(len)) and function is not dg.OutOfMemoryError


def test_every_public_callable_is_in_the_table():
    public = {
        name: getattr(module, name)
        for module in public_calls.public_modules()
        for name in public_calls.public_names(module)
    }
    left_out = set().union(*NOT_IN_TABLE.values())
    known = {name_of(function) for function in TABLE} | left_out
    assert left_out <= set(public)
    for name, value in public.items():
        if callable(value) and name not in known:
            assert not takes_arguments(value), f"{name} is not in TABLE of tests/public_calls.py"
    missing = {
        (name_of(function), name)
        for function, arguments in TABLE.items()
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in arguments and parameter.kind is not parameter.VAR_KEYWORD
    }
    assert missing == ARGUMENTS_LEFT_OUT


@pytest.mark.parametrize("function", TABLE, ids=name_of)
def test_good_arguments_are_good(function):
    function(**{name: good for name, (_, good) in TABLE[function].items()})


@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, a) for f in TABLE for a in TABLE[f]],
    ids=lambda x: x if isinstance(x, str) else name_of(x),
)
def test_bad_arguments_are_named(function, argument):
    good = {name: good for name, (_, good) in TABLE[function].items()}
    kinds = TABLE[function][argument][0]
    assert len(kinds) >= 15
    ops = {name_of(function)} | INNER.get(function, set())
    for kind, bad in kinds.items():
        names = TABLE[function] if kind in SIZES else [argument]
        pattern = rf"^({'|'.join(ops)}): .*\b({'|'.join(names)})\b"
        try:
            function(**good | {argument: bad})
        except (ValueError, TypeError) as error:
            assert re.match(pattern, str(error)), f"{kind}: {error!r}"
        except Exception as error:
            pytest.fail(f"{kind}: {error!r}")
        else:
            pytest.fail(f"{kind}: accepted")


NUMPY = {bool: np.bool_, int: np.int64, float: np.float32}


def is_plain(value):
    """Whether a value holds no NumPy number, so that JSON can hold what it is made of."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, np.generic)


@pytest.mark.parametrize("function", [f for f in TABLE if not isinstance(f, partial)], ids=name_of)
def test_numbers_of_numpy_become_those_of_python(function):
    good = {name: good for name, (_, good) in TABLE[function].items()}
    numbers = {name: NUMPY[type(value)](value) for name, value in good.items() if type(value) in NUMPY}
    if "betas" in good:
        numbers["betas"] = tuple(map(np.float64, good["betas"]))
    result = function(**good | numbers)
    if hasattr(result, "__dict__"):
        for name, value in vars(result).items():
            assert is_plain(value), name
            if name in numbers and isinstance(value, bool | int | float):
                assert value == numbers[name]


def strided(array):
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "strided": strided,
    "column order": np.asfortranarray,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "float64": lambda array: array.astype(np.float64),
    "unaligned": lambda array: np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "read-only": read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", [f for f in TABLE if f.__module__.startswith("dragoman.functional.")], ids=name_of)
def test_layouts_give_the_same_bits(function, layout):
    def call(change):
        dg.manual_seed(0)
        good = {name: good for name, (_, good) in TABLE[function].items()}
        tensors = {n: dg.tensor(change(v.numpy())) for n, v in good.items() if isinstance(v, dg.Tensor)}
        ids = {
            n: change(np.array(v, np.int64)) for n, v in good.items() if n in ("ids", "starts") and layout != "float64"
        }
        return function(**good | tensors | ids).numpy().tobytes()

    assert call(LAYOUTS[layout]) == call(np.array)


@pytest.mark.parametrize(
    "function",
    [F.linear, F.layer_norm, F.relu, F.gelu, F.dropout, F.residual, F.residual_layer_norm],
)
def test_no_rows_are_none(function):
    good = {name: good for name, (_, good) in TABLE[function].items()} | {"sequences": dg.Sequences([])}
    good |= {name: tensor(0, 4) for name in ("x", "residual") if name in good}
    assert function(**good).shape[0] == 0


def test_no_rows_in_other_ops():
    none = dg.Sequences([])
    assert F.embedding([], tensor(5, 4), none).shape == (0, 4)
    assert F.attention(*[tensor(0, 2, 4)] * 3, none, none).shape == (0, 2, 4)
    assert F.cross_entropy(tensor(0, 5), []).item() == 0
    assert F.linear_cross_entropy(tensor(0, 4), tensor(5, 4), []).item() == 0


@pytest.mark.parametrize(
    ("gradient", "error", "message"),
    [
        (dg.tensor(read_only(floats(5, 4))), ValueError, "dweight must be writeable, got a view of a read-only array"),
        (tensor(5, 3), ValueError, r"dweight must have shape \(5, 4\), got \(5, 3\)"),
        (dg.tensor(np.ones((5, 4), np.int32)), TypeError, "dweight must be float32, got int32"),
    ],
    ids=["read-only", "shape", "dtype"],
)
def test_an_output_that_cannot_be_written_is_named(gradient, error, message):
    dy, x, weight = tensor(3, 5), tensor(3, 4), tensor(5, 4)
    options = (None, "none", dg._core.Dropout(), False, gradient.data, True, None, False, None)
    with pytest.raises(error, match=f"linear_backward: {message}"):
        dg._core.linear_backward(dy.data, x.data, weight.data, *options)


@pytest.mark.parametrize("kind", PATH)
def test_a_folder_that_is_no_path_is_named(kind):
    with pytest.raises(TypeError, match="load: folder must be a path, got "):
        dg.load(PATH[kind])


@pytest.mark.parametrize("kind", ["None", "string", "object array", "complex", "rows of different lengths", "dict"])
def test_values_to_copy_are_named(kind):
    with pytest.raises((TypeError, ValueError), match="copy_: array must"):
        tensor(2).copy_(ARRAY[kind])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0.5, 2), "loss"), ((None, 0), "batches"), ((None, 1.5), "batches"), ((None, 3, 3), "done")],
)
def test_arguments_of_one_batch_of_a_step_are_named(arguments, name):
    with pytest.raises((TypeError, ValueError), match=f"^AdamW: {name} must be "):
        dg.optim.AdamW(dg.nn.Linear(2, 2), 0.1).backward(*arguments)
