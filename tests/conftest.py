"""Fixtures: every test starts with the same seed and restores the number of threads.

--device emu or --device cuda runs tests on another device: what they make with dg.tensor lies there. "emu" is the CUDA
backend over the emulator, built by: cmake -S tests/emulator -B build/emulator && cmake --build build/emulator
"""

import os
import threading
from pathlib import Path

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import Generation
from toy_runs import pairs_of

EMULATOR = Path(__file__).parent.parent / "build" / "emulator" / "libdragoman_emu.so"


def pytest_addoption(parser):
    parser.addoption("--device", choices=["cpu", "emu", "cuda"], default="cpu", help="where dg.tensor puts its values")


def pytest_configure(config):
    if config.getoption("device") == "emu":
        os.environ.setdefault("DRAGOMAN_CUDA_LIBRARY", str(EMULATOR))
    if config.getoption("device") != "cpu" and not dg.cuda.is_available():
        raise pytest.UsageError(f"--device {config.getoption('device')}: {dg.cuda.status()}")


def pytest_collection_modifyitems(config, items):
    """Leaves out tests that are about other devices."""
    on_cpu = config.getoption("device") == "cpu"
    left_out = [item for item in items if item.get_closest_marker("cuda" if on_cpu else "cpu")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True)
def _device(request, monkeypatch):
    """Tensors of float32 and bfloat16 and parameters lie on the device by default; ids and indices stay on the CPU.

    So do models that are loaded, until they are moved: `load` reads into memory of the CPU.
    """
    if request.config.getoption("device") == "cpu":
        return
    tensor, stored = dg.tensor, dg.nn.init._skipped

    def on_device(array, device=None, dtype=None, requires_grad=False):
        made = tensor(array, device or "cpu", dtype, requires_grad)
        if device is not None or stored.get() or made.dtype not in ("float32", "bfloat16"):
            return made
        return tensor(array, "cuda", dtype, requires_grad)

    for name in ("", ".nn.attention_positions", ".nn.positional", ".nn.rotary"):  # where layers make their tables
        monkeypatch.setattr(f"dragoman{name}.tensor", on_device)
    init = dg.nn.Parameter.__init__

    def init_on_device(self, array):
        init(self, array)
        if not stored.get():
            self.move("cuda")

    monkeypatch.setattr(dg.nn.Parameter, "__init__", init_on_device)


@pytest.fixture
def device(request):
    """Where dg.tensor and parameters put floats."""
    return "cpu" if request.config.getoption("device") == "cpu" else "cuda"


@pytest.fixture(autouse=True)
def _same_start():
    threads = dg.num_threads()
    dg.manual_seed(0)
    yield
    dg.set_num_threads(threads)


@pytest.fixture
def rng():
    return np.random.default_rng(1234)


@pytest.fixture
def one_thread():
    dg.set_num_threads(1)  # toy models gain nothing from more


@pytest.fixture
def pairs(rng):
    return pairs_of(rng, 60)


@pytest.fixture
def leave(monkeypatch):
    """Steps of generations wait for this event."""
    leave, step = threading.Event(), Generation.step
    monkeypatch.setattr(Generation, "step", lambda generation: leave.wait(60) and step(generation))
    yield leave
    leave.set()
