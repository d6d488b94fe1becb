"""What the backend declares of NCCL, and NCCL itself on a machine without a GPU, where its package is installed."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "csrc"

pytestmark = pytest.mark.skipif(
    shutil.which("c++") is None or not SOURCES.is_dir(), reason="needs the sources and a C++ compiler"
)


def packages():
    """The folders of NVIDIA's packages."""
    spec = importlib.util.find_spec("nvidia")
    return [] if spec is None else [Path(path) for path in spec.submodule_search_locations]


def test_declarations_are_the_headers():
    roots = [*packages(), Path("/usr/local/cuda")]
    folders = [folder for root in roots for folder in (root / "include", root / "nccl/include", root / "cu13/include")]
    for name in ("nccl.h", "cuda_runtime_api.h"):
        if not any((folder / name).is_file() for folder in folders):
            pytest.skip(f"needs {name}, of nvidia-nccl-cu13 and nvidia-cuda-runtime")
    options = [option for folder in folders if folder.is_dir() for option in ("-isystem", folder)]
    command = ["c++", "-std=c++20", "-I", SOURCES, *options, "-fsyntax-only", HERE / "nccl" / "abi.cpp"]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def opener(tmp_path_factory):
    program = tmp_path_factory.mktemp("site") / "open"
    command = ["c++", "-std=c++20", "-O0", "-I", SOURCES, HERE / "nccl" / "open.cpp", "-o", program, "-ldl"]
    subprocess.run(command, check=True)

    def run(folder):
        environment = {**os.environ, "DRAGOMAN_CUDA_LIBRARIES": str(folder)}
        return subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60).stdout

    return run


def test_nccl_opens_and_says_why_it_cannot_join(opener):
    """All functions are found."""
    folder = next((root / "nccl" / "lib" for root in packages() if (root / "nccl" / "lib").is_dir()), None)
    if folder is None:
        pytest.skip("needs nvidia-nccl-cu13")
    version, outcome = opener(folder).splitlines()
    assert re.fullmatch(r"NCCL 2\.\d+\.\d+", version)
    if not Path("/dev/nvidiactl").exists():
        assert re.fullmatch(rf"{version}: ncclCommInitRankConfig: unhandled cuda error \(.+\)", outcome)


def test_a_library_that_is_no_nccl_is_refused(opener, tmp_path):
    subprocess.run(["c++", "-shared", "-x", "c", "/dev/null", "-o", tmp_path / "libnccl.so.2"], check=True)
    assert opener(tmp_path).startswith("this NCCL has no function nccl")
