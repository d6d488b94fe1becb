import threading
import time

import pytest
from dragoman.data.prefetch import Prefetch


def test_the_items_in_their_order():
    for depth in (1, 2, 7):
        with Prefetch((i * i for i in range(100)), depth) as items:
            assert list(items) == [i * i for i in range(100)]
            assert list(items) == []


def test_at_most_depth_ahead():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    with Prefetch(items(), 2) as ready:
        assert next(ready) == 0
        for _ in range(100):
            time.sleep(0.002)
            assert len(made) <= 4  # one taken, two ready, one in the hands of the thread
        assert len(made) == 4


def test_items_are_made_in_another_thread():
    with Prefetch(threading.get_ident() for _ in range(1)) as ready:
        assert next(ready) != threading.get_ident()


def test_an_exception_comes_in_its_place():
    def items():
        yield 1
        raise OSError("disk gone")

    with Prefetch(items()) as ready:
        assert next(ready) == 1
        with pytest.raises(OSError, match="disk gone"):
            next(ready)
        with pytest.raises(StopIteration):
            next(ready)


def test_leaving_ends_the_thread():
    threads = threading.active_count()
    for taken in (0, 1, 5):
        with Prefetch(iter(int, 1), 3) as ready:
            for _ in range(taken):
                next(ready)
        assert threading.active_count() == threads
        ready.close()
        assert list(ready) == []


def test_an_error_of_the_user_leaves_no_thread():
    threads = threading.active_count()
    with pytest.raises(KeyError), Prefetch(range(1000)) as ready:
        next(ready)
        raise KeyError
    assert threading.active_count() == threads


def test_refuses_no_depth():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        Prefetch([], 0)
