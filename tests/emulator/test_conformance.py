"""The primitives of csrc/cuda/device.h do what their comments say: on the emulator and on a GPU alike."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.cuda
HERE = Path(__file__).parent
FAULTS = {
    "divergent_barrier": "waits at a barrier that not all threads reach",
    "divergent_shuffle": "waits at a barrier that not all threads reach",
    "half_mask": "a warp function's mask must name all lanes",
    "missing_barrier": "word 0 is ffffffff",  # the NaN with which shared memory starts
    "forgotten_copy": "a thread ends before its copies",
    "misaligned_copy": "an address is not 16-byte aligned",
    "large_block": "launch: invalid configuration argument",
    "shared_memory": "shared memory: invalid argument",
}


@pytest.fixture(scope="module")
def program(request, tmp_path_factory):
    if request.config.getoption("device") == "emu":
        return Path(os.environ["DRAGOMAN_CUDA_LIBRARY"]).with_name("conformance")
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc")
    built = tmp_path_factory.mktemp("conformance") / "conformance"
    command = ["nvcc", "-std=c++20", "-arch=native", f"-I{HERE.parents[1] / 'csrc'}", HERE / "conformance.cu"]
    subprocess.run([*command, "-o", built], check=True)
    return built


def run(program, *arguments, **environment):
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    "environment", [{}, {"DRAGOMAN_EMULATOR_EAGER": "1"}, {"DRAGOMAN_EMULATOR_SEED": "5"}], ids=str
)
def test_primitives(program, environment):
    done = run(program, **environment)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("as it should be") == 7


@pytest.mark.parametrize("fault", FAULTS)
def test_the_emulator_reports_faults(request, program, fault):
    if request.config.getoption("device") != "emu":
        pytest.skip("undefined on a GPU")
    done = run(program, fault)
    assert done.returncode == 1
    assert FAULTS[fault] in done.stdout
