"""Random calls of the public interface: `python tests/random_calls.py --count 2000 --seed 1`.

Each call takes a public function, class or method, and for its arguments good values, and values of any kind, size
and library. It may return, or raise one of the errors that the documentation allows, with the name of an argument in
its message. Every call is under a limit of time and of memory. All that is not allowed is printed, with a number:
`--only N` makes the same values and calls number N alone.
"""

import argparse
import collections
import contextlib
import datetime
import decimal
import faulthandler
import fractions
import inspect
import io
import os
import pathlib
import re
import resource
import signal
import sys
import tempfile
import warnings

import bad_values
import dragoman as dg
import ml_dtypes
import numpy as np
import public_calls
from dragoman import nn

SECONDS, SPARE = 20, 3 << 30  # for a call; of memory beyond what is in use at the start
ERRORS = (ValueError, TypeError, IndexError, MemoryError)

# What else the documentation of a callable names.
DOCUMENTED = {
    "Tensor.backward": (RuntimeError,),
    "Tensor.__dlpack__": (BufferError,),
    "AdamW.step": (RuntimeError, FloatingPointError),
    "generate": (FloatingPointError,),
    "Translator.__call__": (FloatingPointError,),
}
FILES = (OSError,)  # of every callable with an argument that is a path
PATHS = {"path", "folder", "file", "output", "log", "source", "target", "paths", "files"}

# Calls that do what they are asked for, which here only costs time, or ends the test.
LEFT_OUT = {"set_num_threads", "Trainer.fit", "Tokenizer.train", "Translator.close"}
OF_OPS = {
    "memory",
    "data_as",
    "packed",
    "move",
    "next_dropout",
    "check_options",
    "Record",
}  # what ops and layers call, with what they have checked
ABSTRACT = {"Task", "EncoderDecoder", "Dataset", "Columns", "Callback", "Predictor"}


class TooLong(BaseException):
    pass


def _alarm(*_):
    raise TooLong


def pool():
    """Values of any kind. Many are good for some argument."""
    kinds = [value for name, value in vars(bad_values).items() if name.isupper()]
    values = {id(value): value for kind in kinds for value in kind.values()}
    values = [value for value in values.values() if not inspect.isgenerator(value)]
    values += [0, 1, 2, 3, -1, 7, 2**31, 2**63, 2**64, -(2**63), 10**5000, 0.5, 1e-300, 1e300, 1.0, -0.0]
    values += [np.float16(0.5), np.float32(np.inf), np.float64(0.25), np.int8(2), np.uint64(2**64 - 1), np.bool_(True)]
    values += [np.longdouble(1), np.timedelta64(1, "s"), np.datetime64("2020"), np.str_("a"), np.ma.masked]
    values += [np.zeros(0), np.zeros((0, 3), np.int32), np.full((3, 4), np.nan), np.arange(3), np.array(1)]
    values += [np.ones((2, 3), ml_dtypes.bfloat16), np.ma.masked_array([1.0, 2.0], [0, 1]), np.matrix([[1.0]])]
    values += [decimal.Decimal("0.5"), fractions.Fraction(1, 2), datetime.date(2020, 1, 1), range(3), range(10**12)]
    values += [
        memoryview(b"abc"),
        bytearray(b"abc"),
        slice(None),
        slice(0, 2),
        Ellipsis,
        re.compile("a"),
    ]
    values += [pathlib.Path("none"), io.StringIO("a"), collections.OrderedDict(a=1), frozenset((1,)), object()]
    values += ["a", "cpu", "cuda", "test", "float32", "bfloat16", "bpe", "\0", "\ud800", "x" * 10**5, "ü", "de"]
    values += [[1, 2, 3], [0], [[1, 2], [3]], [["a"]], [("a", "b")], [None], (1, 2), {"a": np.ones(2)}, {1: 2}]
    values += [(2, 3), (-1,), (10**9, 10**9), [2**40], [np.int64(1)], [np.float32(1)], "", b"", [[4, 5]], ["a b", "c"]]
    values += list(samples().values())
    values += [dg.Sequences([2, 1]), dg.Sequences([]), dg.Sequences([0, 3]), nn.Module(), nn.Linear(4, 4)]
    values += [bad_values.tensor(3, 4), bad_values.tensor(4), bad_values.tensor(5, 4), bad_values.tensor()]
    values += [dg.tensor(np.array([1, 0, 2], np.int32)), dg.tensor(np.ones((3, 4)), requires_grad=True)]
    values += [dg.tensor(np.ones((3, 4), np.float32), device="test"), dg.tensor(np.zeros((0, 4), np.float32))]
    return values


def samples():
    """An object of every public class that has methods."""
    model = dg.Transformer(dg.TransformerConfig(**public_calls.CONFIG))
    tensor = dg.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), requires_grad=True)
    found = {
        "Tensor": tensor,
        "Sequences": dg.Sequences([2, 1]),
        "Transformer": model,
        "TransformerConfig": model.config,
        "Translator": dg.Translator(model, public_calls.TOKENIZER),
        "Trainer": dg.Trainer(model, max_steps=1),
        "AdamW": dg.optim.AdamW(nn.Linear(3, 2), 0.1),
        "KVCache": nn.KVCache(2),
        "Linear": nn.Linear(4, 5),
        "LayerNorm": nn.LayerNorm(4),
        "RMSNorm": nn.RMSNorm(4),
        "Dropout": nn.Dropout(0.1),
        "Embedding": nn.Embedding(5, 4),
        "FeedForward": nn.FeedForward(4, 8),
        "MultiHeadAttention": nn.MultiHeadAttention(4, 2),
        "TransformerLayer": nn.TransformerLayer(4, 2, 8),
        "TransformerDecoderLayer": nn.TransformerDecoderLayer(4, 2, 8),
        "Encoder": model.encoder,
        "Decoder": model.decoder,
        "SinusoidalPositionalEncoding": nn.SinusoidalPositionalEncoding(4),
        "LearnedPositionalEncoding": nn.LearnedPositionalEncoding(8, 4),
        "Parameter": nn.Parameter(np.ones((2, 3))),
        "InverseSqrt": dg.train.schedule.InverseSqrt(0.1, 4),
    }
    with contextlib.suppress(ModuleNotFoundError):  # without the extra `text`
        found["Tokenizer"] = dg.Tokenizer.train(["a b c", "d e f"], 64, "char")
    return found


def callables():
    """Name, callable, and the names and good values of its arguments, for all that is public."""
    found = {}
    for module in public_calls.public_modules():
        for name in public_calls.public_names(module):
            value = getattr(module, name)
            if callable(value) and not (inspect.isclass(value) and issubclass(value, BaseException)):
                found.setdefault(name, value)
    for owner, sample in samples().items():
        for name in dir(type(sample)):
            member = getattr(type(sample), name)
            operator = name in public_calls.OPERATORS and callable(member)
            if (operator or not name.startswith("_")) and callable(member):
                found[f"{owner}.{name}"] = getattr(sample, name)
    good = {}
    for function, arguments in public_calls.TABLE.items():
        good[public_calls.name_of(function)] = {name: value for name, (_, value) in arguments.items()}
    calls = []
    for name, function in found.items():
        if name in LEFT_OUT | ABSTRACT or name.split(".")[-1] in OF_OPS:
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # a function of the core
            parameters = []
        calls.append((name, function, list(parameters), good.get(name, {})))
    return calls


def arguments_of(parameters, good, values, random):
    positional, named = [], {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        optional = parameter.default is not parameter.empty
        if optional and random.random() < 0.5:
            continue
        value = values[random.integers(len(values))]
        if parameter.name in good and random.random() < 0.75:
            value = good[parameter.name]
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[parameter.name] = value
    return positional, named


def complaint(name, error, parameters, given):
    """Why this error is not allowed; None if it is."""
    names = {parameter.name for parameter in parameters}
    allowed = ERRORS + DOCUMENTED.get(name, ()) + (FILES if names & PATHS else ())
    if not isinstance(error, allowed):
        return "another error"
    if not given or isinstance(error, MemoryError | OSError) or type(error) not in ERRORS:
        return None
    also = set().union(*(public_calls.ALSO_NAMED.get(part, ()) for part in (name, *name.split("."))))
    if not re.search(rf"\b({'|'.join(names | also)})\b", str(error)):
        return "no argument is named"
    return None


def calls_back(named):
    """Whether a callable was given that the callee calls: then its error comes through."""
    return any(callable(named.get(name)) for name in ("run", "costs", "read", "encode", "report"))


def described(value):
    with contextlib.suppress(Exception):
        return dg.arguments.shown(value).replace("\n", " ")[:80]
    return f"a {type(value).__name__}"


def run(count, seed, only=None):
    """The calls that did what is not allowed, as text."""
    random = np.random.default_rng(seed)
    values, calls, faults, outcomes = pool(), callables(), [], collections.Counter()
    signal.signal(signal.SIGALRM, _alarm)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for number in range(count):
        name, function, parameters, good = calls[random.integers(len(calls))]
        positional, named = arguments_of(parameters, good, values, random)
        if only is not None and number != only:
            continue
        if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # its shadow memory needs terabytes of addresses
            resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, resource.RLIM_INFINITY))
        why = None
        signal.alarm(SECONDS)
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = function(*positional, **named)
                if inspect.isgenerator(result):
                    for _ in zip(result, range(3), strict=False):
                        pass
            outcomes["returned"] += 1
        except TooLong:
            why, error = f"more than {SECONDS} seconds", None
        except BaseException as raised:
            why, error = None if calls_back(named) else complaint(name, raised, parameters, positional or named), raised
            outcomes[type(raised).__name__] += 1
            if only is not None:
                raise
        finally:
            signal.alarm(0)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        if why is not None:
            given = ", ".join([*map(described, positional), *(f"{k}={described(v)}" for k, v in named.items())])
            faults.append(f"call {number}: {name}({given}): {why}: {error!r:.300}")
    return faults, outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="make this call alone")
    options = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # for what is saved under a name that is a value
        faults, outcomes = run(options.count, options.seed, options.only)
        os.chdir("/")
    print(*faults, sep="\n")
    print(f"{options.count} calls with seed {options.seed}: {dict(outcomes.most_common())}; {len(faults)} not allowed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
