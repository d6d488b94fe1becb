"""What importing and using the library does to the process, its forks, its threads and its signals.

DRAGOMAN_FORKS=1000 forks a thousand times in each test of forks.
"""

import gc
import os
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import dragoman as dg
import numpy as np
import pytest


def run(script, **environment):
    """Runs a Python script in a new process. Returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_changes_nothing():
    run("""
        import locale, os, random, signal, sys, threading
        import numpy as np

        def state():
            return {
                "denormals": (np.float32(1e-40) * np.ones(9, np.float32)).tolist(),
                "signals": {s: signal.getsignal(s) for s in signal.valid_signals()},
                "folder": os.getcwd(),
                "locale": locale.setlocale(locale.LC_ALL),
                "numpy": repr(np.random.get_state()),
                "errors": np.geterr(),
                "random": random.getstate(),
                "environment": dict(os.environ),
                "path": list(sys.path),
                "threads": (threading.active_count(), len(os.listdir("/proc/self/task"))),
            }

        before = state()
        import dragoman as dg
        after = state()
        assert before["denormals"][0] > 0
        for name in before:
            assert before[name] == after[name], (name, before[name], after[name])
        x = dg.tensor(np.full((2048, 64), 1e-40, np.float32))
        assert ((x + x).numpy() > 0).all(), "denormals are flushed on the threads of the pool"
    """)


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "100000 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b\n", {"a/cpu.max": "max 100000", "a/b/cpu.max": "50000 100000"}, 1),
        ("0::/not/mounted/here\n", {"cpu.max": "100000 100000"}, 1),
        ("3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1"}, None),
        (
            "4:memory:/\n3:cpu,cpuacct:/a\n0::/\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("1:cpu:/x\n", {"cpu/cpu.cfs_quota_us": "10000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("nonsense\n::\n0::\n", {"cpu.max": "nonsense"}, None),
        ("", {}, None),
    ],
    ids=range(10),
)
def test_cpu_count_obeys_control_groups(tmp_path, groups, files, quota):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    allowed = len(os.sched_getaffinity(0))
    assert dg._core.cpu_count(str(tmp_path)) == min(allowed, quota or allowed)


def test_default_thread_count():
    count = "import dragoman as dg; print(dg.num_threads())"
    unset = "import os; os.environ.pop('OMP_NUM_THREADS', None)"
    one = "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])"
    assert run(count, OMP_NUM_THREADS="3") == ["3"]
    assert run(f"{unset}; {count}") == [str(dg._core.cpu_count())]
    assert run(f"{unset}; {one}; {count}") == ["1"]
    assert run(f"import dragoman as dg; dg.set_num_threads(3); {count}", OMP_NUM_THREADS="1") == ["3"]


def test_the_thread_count_may_change_while_another_thread_is_in_an_op():
    # An op's scratch had the size for the old number of threads, and the new number used it: it overwrote other memory.
    run("""
        import threading
        import dragoman as dg, numpy as np

        q = dg.tensor(np.random.default_rng(0).standard_normal((640, 1, 8)).astype(np.float32))
        rows = dg.Sequences([10] * 64)

        def work():
            return dg.functional.attention(q, q, q, rows, rows).numpy().tobytes()

        expected, right = work(), []
        threads = [threading.Thread(target=lambda: right.extend(work() == expected for _ in range(5000)))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for count in (1, 16) * 100:
                dg.set_num_threads(count)
        assert right == [True] * 10_000
    """)


def test_threadpoolctl_limits_the_pool():
    pytest.importorskip("threadpoolctl")
    script = """
        import os
        import dragoman as dg, numpy as np
        from threadpoolctl import threadpool_info, threadpool_limits

        def threads():
            return len(os.listdir("/proc/self/task"))

        assert "openmp" in [pool["user_api"] for pool in threadpool_info()]
        x = dg.tensor(np.ones((1024, 64), np.float32))
        idle = threads()
        with threadpool_limits(1):
            assert dg.num_threads() == 1
            one = dg.functional.linear(x, x).numpy().tobytes()
            assert threads() == idle
        assert dg.num_threads() == 2
        assert dg.functional.linear(x, x).numpy().tobytes() == one
        assert threads() == idle + 1
        with threadpool_limits(8):
            assert dg.num_threads() == 2
    """
    run(script, OMP_NUM_THREADS="2")


WORK = """
import os, sys, threading
import dragoman as dg, numpy as np

dg.set_num_threads(2)
rng = np.random.default_rng(0)
x, w = (dg.tensor(rng.standard_normal(s).astype(np.float32)) for s in ((600, 64), (256, 64)))

def work(_=None):
    w.requires_grad = True
    dg.functional.linear_cross_entropy(x, w, np.arange(600) % 256).backward()
    grad, w.grad = w.grad.numpy().tobytes(), None
    return grad

expected = work()

def fork_and_work():
    child = os.fork()
    if child == 0:
        os._exit(0 if work() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


FORKS = int(os.environ.get("DRAGOMAN_FORKS", "100"))


def test_forks_after_use():
    run(WORK + f"for _ in range({FORKS}):\n    fork_and_work()\n    assert work() == expected\n")


def test_forks_while_another_thread_works():
    script = f"""
stop = threading.Event()
y = dg.tensor(x.numpy().copy())

def busy():
    while not stop.is_set():
        dg.functional.relu(y * 2.0)

thread = threading.Thread(target=busy)
thread.start()
for _ in range({FORKS}):
    fork_and_work()
stop.set()
thread.join()
assert work() == expected
"""
    run(WORK + script)


def test_multiprocessing_by_fork():
    script = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(20), chunksize=1) == [expected] * 20
assert work() == expected
"""
    run(WORK + script)


def alive(references):
    gc.collect()
    time.sleep(0)  # the main thread runs what other threads left to it
    return [reference for reference in references if reference() is not None]


def test_the_last_reference_may_drop_in_another_thread():
    array = np.ones(1000, np.float32)
    reference = weakref.ref(array)
    held = [dg.tensor(array)]
    del array
    assert reference() is not None
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert not alive([reference])


def test_the_last_reference_may_drop_while_an_op_runs():
    """The op runs without the GIL and then holds the only share in the NumPy memory."""
    weight = dg.tensor(np.ones((64, 64), np.float32))
    references = []

    def multiply(tensors):
        return dg.functional.linear(tensors.pop(), weight).shape

    with ThreadPoolExecutor(4) as pool:
        for _ in range(200):
            array = np.ones((100, 64), np.float32)
            references.append(weakref.ref(array))
            pool.submit(multiply, [dg.tensor(array)])
            del array
    assert not alive(references)


def test_tensors_may_outlive_the_interpreter():
    run("""
        import threading, time
        import dragoman as dg, numpy as np
        x = dg.tensor(np.ones((300, 64), np.float32))
        view, shared = x.numpy(), dg.from_dlpack(np.ones(3, np.float32))
        def busy(y=x):
            while True:
                y = dg.functional.relu(y)
        threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.1)
    """)


@pytest.fixture
def sigint():
    """Python's own handler: a process that was started in the background may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
def test_ctrl_c_stops_a_search_at_once():
    """Within 200 ms (the middle one of five, as the machine may be busy), and the model works as before."""
    config = dg.TransformerConfig.tiny(vocab_size=200, max_length=200)
    model = dg.Transformer(config)
    sources = [[4 + (i * 7 + j) % 190 for j in range(12)] for i in range(8)]

    def search():
        return dg.generate.generate(model, sources, beam=4, max_length=12)

    expected = search()
    sent = []

    def press():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    delays = []
    for attempt in range(5):
        timer = threading.Timer(0.05 + 0.03 * attempt, press)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):
                search()
        delays.append(time.monotonic() - sent[-1])
        timer.join()
    assert statistics.median(delays) < 0.2, delays
    assert search() == expected
