"""`dragoman serve` in a process of its own, from the first request to SIGTERM."""

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import dragoman as dg
import pytest
from dragoman.train import Classification
from family import encoder_for, tokenizer_of
from tiny_translator import write_translator

for library in ("tokenizers", "starlette", "uvicorn"):
    pytest.importorskip(library)


class Server:
    """A process that serves a folder."""

    def __init__(self, folder, *options):
        command = [sys.executable, "-m", "dragoman", "serve", str(folder), "--port=0", "--threads=1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), line + self.process.stderr.read()
        self.port = int(line.rpartition(":")[2])

    def ask(self, method, path, body=None, headers=()):
        """(status, the answer's JSON or text, its headers)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = json.dumps(body) if isinstance(body, dict | list) else body
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text[:1] == "{" else text, answer.headers
        finally:
            connection.close()

    def end(self, number=signal.SIGTERM):
        """(the exit status, what is left of standard output, standard error) after a signal"""
        self.process.send_signal(number)
        try:
            out, error = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.returncode, out, error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_translator(tmp_path_factory.mktemp("model"), ["a man sees two dogs", "\u00e9"])


@pytest.fixture(scope="module")
def translator(folder):
    return dg.Translator.load(folder)


@pytest.fixture(scope="module")
def server(folder):
    server = Server(folder, "--max-characters=200", "--max-texts=5", "--max-body=9000", "--max-length=50")
    yield server
    assert server.end() == (0, "", "")


def test_a_text_and_a_list(server, translator):
    status, answer, headers = server.ask("POST", "/translate", {"text": "a man"})
    assert (status, answer) == (200, {"result": translator("a man")})
    assert headers["Content-Type"] == "application/json"
    texts = ["a man", "", "two dogs", "\u200b"]
    status, answer, _ = server.ask("POST", "/translate", {"text": texts, "beam": 2, "max_length": 7})
    assert (status, answer) == (200, {"results": translator(texts, beam=2, max_length=7)})
    assert server.ask("POST", "/translate", {"text": []})[1] == {"results": []}


def test_candidates(server, translator):
    expected = translator.candidates("a man", beam=3, count=2, max_length=5)
    _, answer, _ = server.ask("POST", "/translate", {"text": "a man", "beam": 3, "count": 2, "max_length": 5})
    assert answer == {
        "result": [{"text": each.text, "score": each.score, "sum_logprob": each.sum_logprob} for each in expected]
    }


def test_what_an_answer_contains(server, translator):
    options = {"prefix": "two", "constraints": ["dogs"], "suppress": ["m"], "beam": 6, "max_length": 30}
    _, answer, _ = server.ask("POST", "/translate", {"text": "a man", **options})
    assert answer == {"result": translator("a man", **options)}
    assert answer["result"].startswith("two")
    assert "dogs" in answer["result"]
    assert "m" not in answer["result"]
    options |= {"prefix": ["a man", ""]}
    _, answer, _ = server.ask("POST", "/translate", {"text": ["a man", "dogs"], **options})
    assert answer == {"results": translator(["a man", "dogs"], **options)}


def test_a_stream(server, translator):
    for text in ("a man sees two dogs", ""):
        body = {"text": text, "stream": True, "beam": 2, "max_length": 20}
        status, answer, headers = server.ask("POST", "/translate", body)
        events = [json.loads(event.removeprefix("data: ")) for event in answer.split("\n\n")[:-1]]
        assert status == 200
        assert headers["Content-Type"].startswith("text/event-stream")
        assert events.pop() == {"done": True}
        assert "".join(event["text"] for event in events) == translator(text, beam=2, max_length=20)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body must be JSON"),
        (b"\xff", 400, "the body must be JSON"),
        (b"[" * 5000, 400, "the body is nested too deeply"),
        ([], 400, "the body must be a JSON object, got list []"),
        ({}, 400, 'the body must have "text"'),
        ({"text": 3}, 400, "text must be a text or a list of them, got int 3"),
        ({"text": ["a", 3]}, 400, "Translator: text[1] must be a str, got int 3"),
        ({"text": "\ud800"}, 400, "must be Unicode text"),
        ({"text": ["a"] * 6}, 400, "text must hold at most 5 texts, got 6"),
        ({"text": ["a", "b" * 201]}, 400, "text[1] must have at most 200 characters, got 201"),
        ({"text": "a", "beam": 17}, 400, "beam must be at most 16, got 17"),
        ({"text": "a", "beam": 0}, 400, "Translator: beam must be at least 1, got 0"),
        ({"text": "a", "count": 99}, 400, "count must be at most 16, got 99"),
        ({"text": "a", "max_length": 51}, 400, "max_length must be at most 50, got 51"),
        ({"text": "a", "colour": 1}, 400, "unexpected keyword argument 'colour'"),
        ({"text": "a", "op": 1}, 400, "Translator: got an unexpected keyword argument 'op'"),
        ({"text": "a", "stream": 1}, 400, "stream must be a bool, got int"),
        ({"text": ["a"], "stream": True}, 400, "stream needs a single text, got a list"),
        ({"text": "a", "count": 2, "stream": True}, 400, "count must be 1 where one output is given, got 2"),
        ({"text": "a", "constraints": ["a"] * 6}, 400, "constraints must hold at most 5 phrases, got 6"),
        ({"text": "a", "constraints": [" "]}, 400, "constraints[0] must have a visible character, got ' '"),
        ({"text": "a", "prefix": ["a", "b"]}, 400, "prefix must hold 1, one for each text, got 2"),
        ({"text": "a", "suppress": [None]}, 400, "suppress must be an int, got NoneType"),
        ({"text": "a", "x": "y" * 9000}, 413, "the body must have at most 9,000 bytes"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(server, body, status, message):
    got, answer, _ = server.ask("POST", "/translate", body)
    assert got == status
    assert list(answer) == ["error"]
    assert message in answer["error"]


def test_other_paths(server):
    assert server.ask("GET", "/health")[:2] == (200, "ok\n")
    there = "there are POST /translate, GET /health and GET /metrics"
    assert server.ask("GET", "/translate")[:2] == (405, {"error": f"GET /translate: {there}"})
    assert server.ask("POST", "/generate", {"text": "a"})[:2] == (404, {"error": f"POST /generate: {there}"})


def test_metrics(server):
    def numbers():
        status, text, headers = server.ask("GET", "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in rows}

    server.ask("POST", "/translate", {"text": "a", "max_length": 1})
    server.ask("POST", "/translate", {})
    before = numbers()
    server.ask("POST", "/translate", {"text": ["a", "b"], "max_length": 1})
    server.ask("POST", "/translate", {"text": "a", "max_length": 2, "stream": True})
    server.ask("POST", "/translate", {})
    after = numbers()
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown.pop('dragoman_requests_total{status="200"}') == 2
    assert grown.pop('dragoman_requests_total{status="400"}') == 1
    assert grown.pop("dragoman_texts_total") == 3
    assert grown.pop("dragoman_request_seconds_count") == grown.pop('dragoman_request_seconds_bucket{le="+Inf"}') == 3
    assert grown.pop("dragoman_request_seconds_sum") > 0
    assert all("bucket" in name for name in grown)
    assert after["dragoman_waiting_texts"] == 0


def test_a_client_that_goes_does_not_harm(server, translator):
    for body in ({"text": "a man", "max_length": 50}, {"text": "a man", "max_length": 50, "stream": True}):
        content = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /translate HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content))
            connection.sendall(content)
    assert server.ask("POST", "/translate", {"text": "a man"})[1] == {"result": translator("a man")}


def test_a_server_ends_and_answers_what_has_come(folder, translator):
    server = Server(folder)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/translate", json.dumps({"text": ["a man sees two dogs"] * 200}))
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    answer = connection.getresponse()
    assert json.loads(answer.read()) == {"results": [translator("a man sees two dogs")] * 200}
    connection.close()
    assert server.process.wait(60) == 0
    server.process.communicate()


_SIGNALLED = """
import signal, sys, uvicorn
from dragoman.cli.main import main

run = uvicorn.Server.run

def signalled(server, sockets):
    signal.raise_signal({number})
    run(server, sockets)

uvicorn.Server.run = signalled
sys.exit(main(["serve", {folder!r}, "--port=0"]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_a_server_before_it_runs(folder, number, status):
    """Even where SIGINT is ignored, as in a shell's job in the background."""
    done = subprocess.run(
        [sys.executable, "-c", _SIGNALLED.format(number=int(number), folder=str(folder))],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status
    assert done.stdout.startswith("serving on ")


def test_ctrl_c_ends_a_server(folder):
    server = Server(folder)
    server.ask("GET", "/health")
    assert server.end(signal.SIGINT)[0] == 130


def test_a_port_that_is_taken_is_an_error(folder, server):
    command = [sys.executable, "-m", "dragoman", "serve", str(folder), f"--port={server.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"dragoman serve: {os.strerror(errno.EADDRINUSE)}")


def test_labels(tmp_path):
    task = Classification(tokenizer_of(), ["neg", "pos"])
    encoder_for(task).eval().save(tmp_path)
    task.save(tmp_path)
    expected = dg.Classifier.load(tmp_path)(["the dog is good", "they"])
    server = Server(tmp_path)
    assert server.ask("POST", "/predict", {"text": ["the dog is good", "they"]})[1] == {"results": expected}
    assert server.ask("POST", "/predict", {"text": "they"})[1] == {"result": expected[1]}
    status, answer, _ = server.ask("POST", "/predict", {"text": "they", "stream": True})
    assert (status, "stream needs a model that writes text" in answer["error"]) == (400, True)
    assert server.end()[0] == 0
