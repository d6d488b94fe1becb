"""The server's application, asked without a network: queues that are full, clients that go, bodies that do not come."""

import asyncio
import json
import time

import dragoman as dg
import numpy as np
import pytest
from dragoman.generate import Generation
from dragoman.server import Limits, make_app
from tiny_translator import make_translator

for library in ("tokenizers", "starlette"):
    pytest.importorskip(library)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model_and_tokenizer():
    return make_translator(["a man sees two dogs"])


@pytest.fixture
def translator(model_and_tokenizer):
    return dg.Translator(*model_and_tokenizer, queue_limit=1)


async def ask(app, body, path="/translate", parts=1, gone=None):
    """(status, headers, body) of a request whose body comes in so many parts, and whose client goes at an event."""
    content = json.dumps(body).encode() if not isinstance(body, bytes) else body
    size = -(-len(content) // parts)
    chunks = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    sent = []

    async def receive():
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": [],
        "query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http",
    }  # fmt: skip
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent).decode()


def waiting(translator, number):
    """Waits until so many texts wait."""
    end = time.monotonic() + 60
    while translator.waiting != number:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_full_queue_is_an_answer(translator, leave):
    app = make_app(translator)
    running = translator.submit("a man", max_length=3)
    waiting(translator, 0)
    queued = translator.submit("a man", max_length=3)
    for body in ({"text": "two dogs"}, {"text": "two dogs", "stream": True}):
        status, headers, text = asyncio.run(ask(app, body))
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(text) == {"error": "Translator: the queue is full: 1 wait, queue_limit=1"}
    leave.set()
    assert running.result(60) == queued.result(60)
    assert asyncio.run(ask(app, {"text": "a man", "max_length": 3}))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_client_asked_for_is_cancelled_when_it_goes(translator, leave, stream):
    app = make_app(translator)

    async def go():
        gone = asyncio.Event()
        body = {"text": "a man", "max_length": 1000, "min_length": 900, "stream": stream}
        asked = asyncio.create_task(ask(app, body, gone=gone))
        await asyncio.sleep(0.05)
        gone.set()
        if stream:
            leave.set()
        return await asked

    steps = []
    step = Generation.step
    Generation.step = lambda generation: steps.append(0) or step(generation)
    try:
        status = asyncio.run(go())[0]
        leave.set()
        assert status == (200 if stream else 499)  # a stream's status is sent with its first bytes
        translator("two dogs", max_length=2)
        assert len(steps) < 800
    finally:
        Generation.step = step


def test_a_body_in_parts(translator):
    body = {"text": ["a man", "two dogs"], "max_length": 4}
    status, _, text = asyncio.run(ask(make_app(translator), body, parts=7))
    assert (status, json.loads(text)) == (200, {"results": translator(body["text"], max_length=4)})


def test_a_body_that_does_not_come_is_not_waited_for(translator):
    async def never():
        await asyncio.sleep(60)

    async def go(app):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/translate", "headers": [], "query_string": b""}
        await app(scope, never, send)
        return sent

    sent = asyncio.run(go(make_app(translator, Limits(body_seconds=1))))
    assert sent[0]["status"] == 408
    assert b"the body must arrive within 1 seconds" in sent[1]["body"]


def test_an_error_of_the_model_is_an_answer(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    broken = dg.Transformer(model.config)
    broken.output.weight.copy_(np.full(broken.output.weight.shape, np.nan, np.float32))
    app = make_app(dg.Translator(broken, tokenizer))
    status, _, text = asyncio.run(ask(app, {"text": "a man"}))
    assert (status, "logits are not finite" in json.loads(text)["error"]) == (500, True)
    status, _, text = asyncio.run(ask(app, {"text": "a man", "stream": True}))
    assert (status, "logits are not finite" in json.loads(text.removeprefix("data: "))["error"]) == (200, True)


def test_memory_that_runs_out_is_an_answer(translator, monkeypatch):
    def step(_):
        raise MemoryError("no memory")

    monkeypatch.setattr(Generation, "step", step)
    assert asyncio.run(ask(make_app(translator), {"text": "a man"}))[0] == 503


def test_what_cannot_be_served_is_named(translator):
    with pytest.raises(TypeError, match=r"^make_app: predictor must be one of Translator, LanguageModel, .* got int$"):
        make_app(3)
    with pytest.raises(TypeError, match=r"^make_app: limits must be a Limits, got int$"):
        make_app(translator, 3)
