"""How the CUDA backend finds cuBLASLt, and what it declares of it."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "csrc"
FILE = "libdragoman_none.so.13"

pytestmark = pytest.mark.skipif(
    shutil.which("c++") is None or not SOURCES.is_dir(), reason="needs the sources and a C++ compiler"
)


def compiled(*options):
    return ["c++", "-std=c++20", "-I", SOURCES, *options]


def cuda_headers():
    """Folders with cublasLt.h and what it includes."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else [Path(path) / "cu13" for path in spec.submodule_search_locations]
    roots.append(Path("/usr/local/cuda"))
    found = [root / "include" for root in roots]
    return [folder for folder in found if folder.is_dir()]


def test_declarations_are_the_headers():
    folders = cuda_headers()
    for name in ("cublasLt.h", "cuda_runtime_api.h"):
        if not any((folder / name).is_file() for folder in folders):
            pytest.skip(f"needs {name}, of nvidia-cublas and nvidia-cuda-runtime")
    options = [option for folder in folders for option in ("-isystem", folder)]
    subprocess.run(compiled(*options, "-fsyntax-only", HERE / "cublaslt" / "abi.cpp"), check=True)


@pytest.fixture(scope="module")
def opener(tmp_path_factory):
    """A program in a package's folder, which opens a library as the backend does."""
    site = tmp_path_factory.mktemp("site")
    program = site / "dragoman" / "open"
    program.parent.mkdir()
    subprocess.run(compiled("-O0", HERE / "cublaslt" / "open.cpp", "-o", program, "-ldl"), check=True)

    def run(**environment):
        given = {**os.environ, **environment}
        return subprocess.run([program, FILE], env=given, capture_output=True, text=True, check=True).stdout.strip()

    return site, run


def make_library(folder):
    folder.mkdir(parents=True)
    subprocess.run(["c++", "-shared", "-x", "c", "/dev/null", "-o", folder / FILE], check=True)


def test_a_library_is_looked_for_in_every_place(opener, tmp_path):
    site, run = opener
    problem = run(DRAGOMAN_CUDA_LIBRARIES=f"{tmp_path}/a:{tmp_path}/b")
    beside = f"{site}/dragoman/../nvidia/cu13/lib"
    places = [f"{folder}/{FILE}: cannot open" for folder in (f"{tmp_path}/a", f"{tmp_path}/b", beside)]
    assert [place.split(" shared")[0] for place in problem.split("; ")] == [*places, f"{FILE}: cannot open"]
    make_library(tmp_path / "b")
    assert run(DRAGOMAN_CUDA_LIBRARIES=f"{tmp_path}/a:{tmp_path}/b") == "found"
    assert run(LD_LIBRARY_PATH=f"{tmp_path}/b") == "found"
    assert run() != "found"
    make_library(site / "nvidia" / "cu13" / "lib")
    assert run() == "found"
