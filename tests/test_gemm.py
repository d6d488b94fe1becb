"""The matrix product on every instruction set this machine runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dragoman import _core


@pytest.mark.parametrize("isa", _core.cpu_isas())
def test_every_instruction_set(isa):
    """The tests of linear with that instruction set forced."""
    tests = Path(__file__).with_name("test_linear.py")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests],
        env=os.environ | {"DRAGOMAN_ISA": isa},
        check=True,
    )
