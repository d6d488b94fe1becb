"""The examples with FastAPI and Ray Serve, from a request to its answer, in processes of their own."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dragoman as dg
import pytest
from tiny_translator import write_translator

EXAMPLES = Path(__file__).parents[2] / "examples/serving"

# The tests also run from a folder that holds nothing else of the source tree.
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")

TEXT = "a man sees two dogs"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("tokenizers")
    return write_translator(tmp_path_factory.mktemp("model"), [TEXT])


def start(example, folder, seconds):
    """The process of an example and its port, once that answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example), str(folder), f"--port={port}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate()[0])


def ask(port, path, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def stop(process):
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    return out


def test_fastapi(folder):
    for library in ("fastapi", "uvicorn"):
        pytest.importorskip(library)
    translator = dg.Translator.load(folder)
    process, port = start("with_fastapi.py", folder, 60)
    try:
        expected = translator(TEXT, beam=2, max_length=20)
        body = {"text": TEXT, "beam": 2, "max_length": 20}
        status, answer = ask(port, "/translate", body)
        assert (status, json.loads(answer)) == (200, {"translation": expected})
        assert ask(port, "/stream", body) == (200, expected)
        assert ask(port, "/translate", {"text": "a" * 3000})[0] == 422
        assert ask(port, "/translate", {"text": TEXT, "beam": 99})[0] == 422
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda n: ask(port, "/stream", {**body, "max_length": n}), range(1, 25)))
        assert found == [(200, translator(TEXT, beam=2, max_length=n)) for n in range(1, 25)]
    finally:
        out = stop(process)
    assert not re.search("Traceback", out), out


def test_ray_serve(folder):
    pytest.importorskip("ray.serve")
    translator = dg.Translator.load(folder)
    process, port = start("with_ray.py", folder, 120)
    try:
        end = time.monotonic() + 120
        processes = set()
        while len(processes) < 2 and time.monotonic() < end:
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: ask(port, "/", {"text": TEXT}), range(16)))
            for status, answer in answers:
                if status == 200:  # the routes come a moment after the port
                    found = json.loads(answer)
                    assert found["translation"] == translator(TEXT, max_length=512)
                    processes.add(found["process"])
        assert len(processes) == 2
        status, answer = ask(port, "/", {"text": 3})
        assert (status, "Translator: text must be a str" in answer) == (400, True)
    finally:
        out = stop(process)
    assert "Traceback" not in out, out
