"""The example that serves a model over HTTP."""

import http.client
import importlib.util
import threading
from pathlib import Path

import dragoman as dg
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/serving/server.py"

# The tests also run from a folder that holds nothing else of the source tree.
pytestmark = pytest.mark.skipif(not EXAMPLE.exists(), reason="the example is not here")


@pytest.fixture(scope="module")
def serving():
    """The example's module, its translator, and the port of a running server."""
    pytest.importorskip("tokenizers")
    spec = importlib.util.spec_from_file_location("server", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dg.manual_seed(0)
    tokenizer = dg.Tokenizer.train(["a man sees a dog"] * 9, vocab_size=64)
    translator = dg.Translator(dg.Transformer(dg.TransformerConfig.tiny(vocab_size=tokenizer.vocab_size)), tokenizer)
    with module.Server(translator, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield module, translator, server.server_port
        server.shutdown()
        thread.join()


def ask(serving, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", serving[2], timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("text", ["a dog", "a dog\n", "a man\n\na dog\r\n", "", "\n\n", "\u200b\na\u2028man"], ids=repr)
def test_an_answer_has_as_many_lines_as_the_request(serving, text):
    module, translator, _ = serving
    status, answer = ask(serving, "POST", "/translate", text.encode())
    lines = text.removesuffix("\n").split("\n")
    expected = [" ".join(found.splitlines()) for found in translator(lines, max_length=module.MAX_LENGTH)]
    assert status == 200
    assert answer.split("\n") == [*expected, ""]


@pytest.mark.parametrize(
    "method, path, body, headers, status, message",
    [
        ("GET", "/health", None, {}, 200, "ok\n"),
        ("GET", "/", None, {}, 404, "there are /translate and /health\n"),
        ("POST", "/health", b"a", {}, 404, "POST goes to /translate\n"),
        ("POST", "/translate", b"ab\xff", {}, 400, "the text must be UTF-8: invalid start byte at byte 2\n"),
        ("POST", "/translate", b"a\n" + b"b" * 2001, {}, 413, "line 2: at most 2000 characters, got 2001\n"),
        ("POST", "/translate", None, {"Content-Length": "65537"}, 413, "at most 65536 bytes, got 65537\n"),
        ("POST", "/translate", None, {"Content-Length": "-1"}, 413, "at most 65536 bytes, got -1\n"),
        ("POST", "/translate", None, {"Content-Length": "many"}, 411, "Content-Length must say"),
    ],
)
def test_other_requests_are_answered_in_a_sentence(serving, method, path, body, headers, status, message):
    got, text = ask(serving, method, path, body, headers)
    assert (got, message in text) == (status, True), text


def test_memory_that_runs_out_is_an_answer(serving, monkeypatch):
    monkeypatch.setattr(dg.Translator, "__call__", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    assert ask(serving, "POST", "/translate", b"a")[0] == 503
