"""GenerationExecutor, with a Generation that counts: who joins when, who leaves, and whose error it is."""

import threading
from operator import itemgetter

import pytest
from dragoman.generate import SearchOptions
from dragoman.predict import generation_executor
from dragoman.predict.call import Work
from dragoman.predict.generation_executor import GenerationExecutor


class Counting:
    """Stands for Generation: a request of the ids [n] takes n steps and gives 1 to n. It keeps who ran in each step."""

    def __init__(self, model, name):
        self.model, self.keys, self.asked, self.ended = model, 0, {}, {}

    def add_checked(self, ids, options, place):
        if ids == ["not for this model"]:
            raise ValueError("not for this model")
        self.keys += 1
        self.asked[self.keys] = [ids[0], 0]
        return self.keys

    def step(self):
        model = self.model
        assert model.inside
        model.begun.set()
        assert model.gate.wait(60)
        model.steps.append(sorted(str(n) for n, _ in self.asked.values()))
        if any(n == "breaks the step" for n, _ in self.asked.values()) or len(self.asked) > model.most:
            raise MemoryError("out of memory")
        for asked in self.asked.values():
            asked[1] += 1
        ended = [key for key, (n, done) in self.asked.items() if n in (done, "breaks itself")]
        self.ended |= {key: self.asked.pop(key) for key in ended}
        return ended

    def take(self, key):
        n, done = self.ended.pop(key)
        if n == "breaks itself":
            raise FloatingPointError("logits are not finite")
        return list(range(1, done + 1))

    def stable(self, key):
        return list(range(1, self.asked[key][1] + 1))

    def cancel(self, key):
        self.asked.pop(key, None)
        self.model.cancelled += 1


class Model:
    def __init__(self):
        self.gate, self.begun = threading.Event(), threading.Event()
        self.steps, self.most, self.cancelled, self.inside = [], 99, 0, 0

    def inference(self):
        return self

    def __enter__(self):
        self.inside += 1

    def __exit__(self, *error):
        self.inside -= 1


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(generation_executor, "Generation", Counting)
    return Model()


def work(n, tokens=1, rows=1, progress=None):
    return Work(([n], SearchOptions(), 0), tokens, rows=rows, progress=progress)


def ask(executor, n, **options):
    return executor.submit([work(n, **options)], itemgetter(0))


def busy(model, n, batch_tokens=8, queue_limit=None):
    """An executor that runs a request of n steps, and waits in the first."""
    executor = GenerationExecutor(model, "Counter", batch_tokens, queue_limit)
    future = ask(executor, n)
    assert model.begun.wait(60)
    return executor, future


def test_requests_join_between_two_steps_and_leave(model):
    executor, first = busy(model, 3)
    second, third = ask(executor, 1), ask(executor, 4)
    model.gate.set()
    assert [each.result(60) for each in (first, second, third)] == [[1, 2, 3], [1], [1, 2, 3, 4]]
    assert model.steps == [["3"], ["1", "3", "4"], ["3", "4"], ["4"], ["4"]]
    assert model.inside == 0


def test_the_model_has_its_own_mode_when_a_caller_gets_the_last_result(model):
    model.gate.set()
    executor = GenerationExecutor(model, "Counter", 8, None)
    for _ in range(50):
        inside = []
        future = ask(executor, 2)
        future.add_done_callback(lambda _, inside=inside: inside.append(model.inside))
        assert future.result(60) == [1, 2]
        while not inside:
            pass
        assert inside == [0]


@pytest.mark.parametrize("unit", ["tokens", "rows"])
def test_no_more_run_than_fit(model, unit, monkeypatch):
    monkeypatch.setattr(GenerationExecutor, "MAX_ROWS", 8)
    executor, first = busy(model, 2)
    futures = [ask(executor, 2, **{unit: 3}) for _ in range(3)]
    long = ask(executor, 1, **{unit: 20})
    model.gate.set()
    assert first.result(60) == [1, 2]
    assert [future.result(60) for future in futures] == [[1, 2]] * 3
    assert long.result(60) == [1]
    assert max(map(len, model.steps)) == 3
    assert model.steps[-1] == ["1"]


def test_a_request_that_runs_is_cancelled(model):
    executor, first = busy(model, 10**9)
    second = ask(executor, 2)
    assert first.cancel()
    model.gate.set()
    assert second.result(60) == [1, 2]
    assert model.cancelled == 1
    assert model.steps[1:] == [["2"], ["2"]]


def test_an_error_is_no_other_requests(model):
    executor, first = busy(model, 3)
    others = [ask(executor, n) for n in ("not for this model", "breaks itself", "breaks the step", 2)]
    model.gate.set()
    assert first.result(60) == [1, 2, 3]
    assert others[3].result(60) == [1, 2]
    for future, kind, message in zip(
        others, (ValueError, FloatingPointError, MemoryError), ("not for", "not finite", "out of memory"), strict=False
    ):
        with pytest.raises(kind, match=message):
            future.result(60)
    assert ask(executor, 1).result(60) == [1]
    assert model.inside == 0


def test_requests_that_are_too_many_together_run_one_by_one(model):
    model.most = 2
    executor, first = busy(model, 3)
    progress = []
    futures = [ask(executor, 2), ask(executor, 3, progress=progress.append), ask(executor, 4)]
    model.gate.set()
    assert [future.result(60) for future in [first, *futures]] == [[1, 2, 3], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert progress == [[1], [1, 2]]


def test_progress_is_told_after_each_step(model):
    model.gate.set()
    executor = GenerationExecutor(model, "Counter", 8, None)
    progress = []
    assert ask(executor, 4, progress=progress.append).result(60) == [1, 2, 3, 4]
    assert progress == [[1], [1, 2], [1, 2, 3]]
