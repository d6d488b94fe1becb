"""What is said of CUDA where it cannot be used, one sentence for each reason."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dragoman import _core, cuda

ROOT = Path(__file__).parents[2]
STATUS = "import dragoman as dg; from dragoman.cli import main; print(dg.cuda.status()); main(['info'])"

# A machine's answers, from the environment.
MACHINE = """
#include <cstdlib>
#include "cuda_runtime.h"
static int number(const char* name) { return std::atoi(std::getenv(name)); }
cudaError_t cudaDriverGetVersion(int* version) { return *version = number("DRIVER"), cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = number("DEVICES");
  return *count < 0 ? cudaErrorInvalidValue : cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int capability = number("CAPABILITY");
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? capability / 10 : capability % 10;
  return cudaSuccess;
}
"""
MACHINE_CALLS = ("cudaDriverGetVersion", "cudaGetDeviceCount", "cudaDeviceGetAttribute")


def sentence(library, **environment):
    """Of dragoman.cuda.status() in a new process, which `dragoman info` must say too."""
    given = {**os.environ, "DRAGOMAN_CUDA_LIBRARY": str(library), **environment}
    done = subprocess.run([sys.executable, "-c", STATUS], env=given, capture_output=True, text=True, check=True)
    status, *info = done.stdout.splitlines()
    assert f"cuda: {status}" in info
    return status


@pytest.mark.cpu
def test_without_a_backend(tmp_path):
    assert sentence(tmp_path / "none.so") == "this build has no CUDA backend"
    (tmp_path / "broken.so").write_bytes(b"\x7fELF")
    assert sentence(tmp_path / "broken.so").startswith("the CUDA backend cannot be opened (")
    assert sentence(_core.__file__) == f"{_core.__file__} is no CUDA backend"


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """The backend with the machine above, and with cuBLASLt looked for in earnest; the rest is the emulator's."""
    built = Path(os.environ.get("DRAGOMAN_CUDA_LIBRARY", "")).parent / "CMakeFiles" / "dragoman_emu.dir"
    if not built.is_dir() or shutil.which("c++") is None:
        pytest.skip("needs the emulator's build and a C++ compiler")
    folder = tmp_path_factory.mktemp("backend")
    (folder / "machine.cpp").write_text(MACHINE)
    own = {"backend.cu", "cublaslt.cu"}
    objects = [path for path in built.rglob("*.o") if path.stem not in {*own, "lt.cpp"}]
    renamed = [f"-D{name}=machine_{name}" for name in MACHINE_CALLS]
    sources = [*(ROOT / "csrc" / "cuda" / name for name in sorted(own)), folder / "machine.cpp"]
    include = ["-I", ROOT / "tests" / "emulator", "-I", ROOT / "csrc"]
    library = folder / "libdragoman_states.so"
    options = ["-std=c++20", "-O0", "-w", "-fPIC", "-shared", "-fvisibility=hidden", *renamed, *include]
    subprocess.run(["c++", *options, "-o", library, *objects, "-x", "c++", *sources], check=True)
    return library


MACHINE_THAT_DOES = {"DRIVER": "13000", "DEVICES": "1", "CAPABILITY": "80"}


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"DRIVER": "0"}, "this machine has no NVIDIA driver"),
        ({"DRIVER": "12090"}, "the NVIDIA driver is too old: it knows CUDA 12, this build needs 13"),
        ({"DEVICES": "-1"}, "CUDA does not start: invalid argument"),
        ({"DEVICES": "0"}, "this machine has no CUDA device"),
        ({"CAPABILITY": "75"}, "the GPU has compute capability 7.5, this build needs 8.0 or more"),
    ],
    ids=["no driver", "old driver", "driver fails", "no device", "old device"],
)
def test_what_a_machine_lacks(backend, answers, expected):
    assert sentence(backend, **(MACHINE_THAT_DOES | answers)) == expected


@pytest.mark.cuda
def test_a_library_of_another_version():
    path = os.environ.get("DRAGOMAN_CUDA_LIBRARY", Path(_core.__file__).with_name("libdragoman_cuda.so"))
    entry = ctypes.CDLL(str(path)).dragoman_cuda_api
    entry.restype, problem = ctypes.c_void_p, ctypes.c_char_p()
    assert entry(ctypes.c_int32(0), None, ctypes.byref(problem)) is None
    assert problem.value == b"the CUDA backend is of another version than dragoman"
    assert cuda.is_available()  # what is in use stays


@pytest.mark.cuda
def test_without_cublaslt(backend, tmp_path):
    missing = sentence(backend, **MACHINE_THAT_DOES)
    if missing.startswith("ready"):
        pytest.skip("the system has cuBLASLt")
    assert missing.startswith("cuBLASLt was not found; install it by: pip install 'dragoman[cuda]' (")
    file = tmp_path / "libcublasLt.so.13"
    subprocess.run(["c++", "-shared", "-x", "c", "/dev/null", "-o", file], check=True)
    folders = {"DRAGOMAN_CUDA_LIBRARIES": str(tmp_path)}
    assert sentence(backend, **MACHINE_THAT_DOES, **folders).startswith("cuBLASLt has no function cublasLt")


@pytest.mark.cuda
def test_what_is_ready_was_proved_on_the_emulator_or_on_gpus(monkeypatch):
    monkeypatch.setattr(cuda, "PROVED_ON", ())
    assert cuda.status() == "ready; proved on the emulator only"
    monkeypatch.setattr(cuda, "PROVED_ON", ("H100", "H200"))
    assert cuda.status() == "ready; proved on H100 and H200"
