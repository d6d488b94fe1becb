"""The executor: many callers, whose items are merged, cancelled, refused and fail one by one."""

import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from operator import itemgetter

import pytest
from dragoman.predict import QueueFullError
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work


class Model:
    """Doubles its values. It begins a batch when `gate` is open, and keeps the batches."""

    def __init__(self):
        self.gate, self.begun = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, values):
        self.begun.set()
        assert self.gate.wait(60)
        self.batches.append(list(values))
        if "bad" in values:
            raise ValueError("the value is bad")
        return [2 * value for value in values]


@pytest.fixture
def model():
    return Model()


def executor_of(model, batch_tokens=10, queue_limit=None):
    return BatchExecutor(model, "Doubler", batch_tokens, queue_limit)


def works(values, tokens=1, kind=None):
    return [Work(value, tokens, kind) for value in values]


def busy(executor, model):
    """A call that runs until the gate opens."""
    future = executor.submit(works([0]), itemgetter(0))
    assert model.begun.wait(60)
    return future


def test_what_waits_is_merged_by_tokens(model):
    executor = executor_of(model)
    first = busy(executor, model)
    futures = [executor.submit(works([i], tokens=4), itemgetter(0)) for i in range(1, 6)]
    long = executor.submit(works([9], tokens=99), itemgetter(0))
    assert executor.waiting == 6
    model.gate.set()
    assert [future.result(60) for future in futures] == [2, 4, 6, 8, 10]
    assert (first.result(60), long.result(60)) == (0, 18)
    assert model.batches == [[0], [1, 2], [3, 4], [5], [9]]
    assert executor.waiting == 0
    assert executor.run(works(range(25))) == [2 * i for i in range(25)]
    assert executor.run([]) == []


def test_kinds_are_not_mixed(model):
    executor = executor_of(model)
    busy(executor, model)
    futures = [executor.submit(works([i], kind=i % 2), itemgetter(0)) for i in range(6)]
    model.gate.set()
    assert [future.result(60) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert model.batches[1:] == [[0, 2, 4], [1, 3, 5]]


def test_a_single_item_does_not_wait_for_all_of_a_large_call(model):
    executor = executor_of(model, batch_tokens=2)
    busy(executor, model)
    large = executor.submit(works(range(10, 20)), list)
    single = executor.submit(works([1]), itemgetter(0))
    other = executor.submit(works([3, 4]), list)
    model.gate.set()
    assert single.result(60) == 2
    assert other.result(60) == [6, 8]
    assert large.result(60) == [2 * i for i in range(10, 20)]
    assert model.batches == [[0], [10, 1], [3, 11], [4, 12], [13, 14], [15, 16], [17, 18], [19]]


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_is_no_other_callers(model, count):
    executor = executor_of(model)
    busy(executor, model)
    before = executor.submit(works([1]), itemgetter(0))
    bad = executor.submit(works(["bad"] * count), list)
    after = executor.submit(works([2, 3]), list)
    model.gate.set()
    assert before.result(60) == 2
    assert after.result(60) == [4, 6]
    with pytest.raises(ValueError, match="the value is bad"):
        bad.result(60)
    assert executor.run(works([5])) == [10]


def test_an_error_of_the_last_step_is_the_callers(model):
    model.gate.set()
    future = executor_of(model).submit(works([1]), lambda found: found[7])
    with pytest.raises(IndexError):
        future.result(60)


def test_a_call_that_waits_is_cancelled(model):
    executor = executor_of(model, batch_tokens=1)
    first = busy(executor, model)
    futures = [executor.submit(works([i, i]), list) for i in range(1, 4)]
    assert futures[1].cancel()
    model.gate.set()
    assert {future.result(60)[0] for future in (futures[0], futures[2])} == {2, 6}
    assert first.result(60) == 0
    assert [2] not in model.batches
    assert set(as_completed(futures, 60)) == set(futures)
    with pytest.raises(CancelledError):
        futures[1].result(60)


def test_a_call_that_runs_is_cancelled(model):
    executor = executor_of(model)
    first = busy(executor, model)
    assert first.cancel()
    with pytest.raises(CancelledError):
        first.result(60)
    model.gate.set()
    assert executor.run(works([1])) == [2]


def test_a_full_queue_refuses(model):
    executor = executor_of(model, queue_limit=3)
    first = busy(executor, model)
    futures = [executor.submit(works([i]), itemgetter(0)) for i in range(2)]
    large = executor.submit(works(range(5)), list)  # two waited
    with pytest.raises(QueueFullError, match=r"^Doubler: the queue is full: 7 wait, queue_limit=3$"):
        executor.submit(works([1]), list)
    with pytest.raises(QueueFullError):
        executor.run(works([1]))
    assert large.cancel()
    futures.append(executor.submit(works([2]), itemgetter(0)))
    model.gate.set()
    assert [future.result(60) for future in futures] == [0, 2, 4]
    assert first.result(60) == 0
    assert executor.run(works([1])) == [2]


def test_close_waits_for_what_is_here_and_refuses_more(model):
    executor = executor_of(model)
    busy(executor, model)
    future = executor.submit(works([1]), itemgetter(0))
    threading.Timer(0.05, model.gate.set).start()
    executor.close()
    assert future.result(0) == 2
    with pytest.raises(RuntimeError, match=r"^Doubler: it is closed$"):
        executor.run(works([1]))


def test_many_threads(model):
    model.gate.set()
    executor = executor_of(model, batch_tokens=7)

    def ask(thread):
        found = []
        for i in range(25):
            value = 100 * thread + i
            if i % 3:
                found.append(executor.run(works([value], tokens=1 + i % 5))[0])
            else:
                future = executor.submit(works([value, 1]), itemgetter(0))
                found.append(future.result(60) if not (i % 2 and future.cancel()) else 2 * value)
        return found

    with ThreadPoolExecutor(8) as pool:
        for thread, found in enumerate(pool.map(ask, range(8))):
            assert found == [2 * (100 * thread + i) for i in range(25)]


def test_nothing_is_kept(model):
    model.gate.set()

    class Value:
        def __rmul__(self, other):
            return 3 * other

    executor = executor_of(model)
    value = Value()
    kept = weakref.ref(value)
    assert executor.run(works([value])) == [6]
    model.batches.clear()
    del value
    end = time.monotonic() + 60
    while kept() is not None and time.monotonic() < end:  # the thread leaves its frame a moment later
        gc.collect()
        time.sleep(0.01)
    assert kept() is None


def test_ctrl_c_ends_a_wait_and_cancels():
    code = """
import os, signal, threading, time
from dragoman.predict.batch_executor import BatchExecutor
from dragoman.predict.call import Work
begun, gate = threading.Event(), threading.Event()
ran = []
def model(values):
    ran.extend(values)
    begun.set()
    gate.wait(60)
    return values
executor = BatchExecutor(model, "Model", 1, None)
def interrupt():
    begun.wait()
    print("sent", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    executor.run([Work(1, 1), Work(2, 1)])
except KeyboardInterrupt:
    print("interrupted", flush=True)
gate.set()
assert executor.run([Work(3, 1)]) == [3]
assert ran == [1, 3], ran
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "sent\ninterrupted\n"), done.stderr


def test_the_limits_of_a_predictor_are_checked_and_copied():
    dg = pytest.importorskip("dragoman")
    pytest.importorskip("tokenizers")
    tokenizer = dg.Tokenizer.train(["a man sees two dogs"] * 3, 64)
    config = dg.TransformerConfig(
        vocab_size=tokenizer.vocab_size, d_model=8, num_heads=1, d_ff=8, num_encoder_layers=1, num_decoder_layers=1
    )
    model = dg.Transformer(config)
    for name in ("queue_limit", "batch_tokens"):
        with pytest.raises(ValueError, match=f"^Translator: {name} must be at least 1, got 0$"):
            dg.Translator(model, tokenizer, **{name: 0})
        with pytest.raises(TypeError, match=f"^Translator: {name} must be an int, got str$"):
            dg.Translator(model, tokenizer, **{name: "1"})
    with dg.Translator(model, tokenizer, queue_limit=1, batch_tokens=3) as translator:
        expected = translator(["a man", "two dogs"], max_length=3)
        copy = pickle.loads(pickle.dumps(translator))
        assert copy._limits == translator._limits == {"queue_limit": 1, "batch_tokens": 3}
        assert copy(["a man", "two dogs"], max_length=3) == expected
        assert translator.waiting == 0
    with pytest.raises(RuntimeError, match=r"^Translator: it is closed$"):
        translator("a man")
    assert copy("a man", max_length=3) == expected[0]
