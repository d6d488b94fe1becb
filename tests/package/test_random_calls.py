"""2,000 random calls of the public interface, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "random_calls.py"


def test_random_calls_end_in_a_result_or_in_an_error_that_names_an_argument():
    count = os.environ.get("DRAGOMAN_RANDOM_CALLS", "2000")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--count", count, "--seed", "1"], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} calls with seed 1" in done.stdout
