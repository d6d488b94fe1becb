"""make_app: the server's routes, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from dragoman import arguments
from dragoman.predict import (
    Classifier,
    LanguageModel,
    Predictor,
    QueueFullError,
    SentenceEncoder,
    Tagger,
    TextStream,
    Translator,
)
from dragoman.server.asked import Asked, answer_of, read, submit
from dragoman.server.limits import Limits
from dragoman.server.metrics import Metrics

PATHS: dict[type[Predictor], str] = {
    Translator: "/translate",
    LanguageModel: "/generate",
    Classifier: "/predict",
    Tagger: "/predict",
    SentenceEncoder: "/predict",
}
NO_EXTRA = "serve: needs the extra: pip install 'dragoman[serve]'"


class _Refused(Exception):
    """A request that gets an error's status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(predictor: Predictor, limits: Limits | None = None) -> Any:
    """A Starlette application that serves a model: `POST /translate`, `/generate` or `/predict`, `GET /health` and
    `GET /metrics`.

    Args:
        predictor: a Translator, LanguageModel, Classifier, Tagger or SentenceEncoder.
        limits: what a request may ask; by default `Limits()`.

    Raises:
        ModuleNotFoundError: without the extra `serve`.
        TypeError: another kind of predictor, or limits of another type.
    """
    path = PATHS.get(type(predictor))
    if path is None:
        names = ", ".join(kind.__name__ for kind in PATHS)
        raise TypeError(f"make_app: predictor must be one of {names}, got {type(predictor).__name__}")
    limits = Limits() if limits is None else limits
    arguments.check_types("make_app", Limits, limits=limits)
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse, PlainTextResponse
        from starlette.routing import Route
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    metrics = Metrics()

    async def answer(request: Any) -> Any:
        return await _Answer(predictor, limits, metrics).to(request)

    async def health(_: Any) -> Any:
        return PlainTextResponse("ok\n")

    async def numbers(_: Any) -> Any:
        text = metrics.text(predictor.waiting)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def refused(request: Any, error: Exception) -> Any:
        """Another path, or another method."""
        status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
        text = f"{request.method} {request.url.path}: there are POST {path}, GET /health and GET /metrics"
        return JSONResponse({"error": text}, status, headers)

    routes = [Route(path, answer, methods=["POST"]), Route("/health", health), Route("/metrics", numbers)]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})


class _Answer:
    """The answer to one request."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self._predictor, self._limits, self._metrics = predictor, limits, metrics
        self._start = time.monotonic()
        self._texts = 0

    async def to(self, request: Any) -> Any:
        from starlette.responses import JSONResponse, StreamingResponse

        headers = {}
        try:
            asked = read(await self._body(request), self._limits)
            self._texts = len(asked.texts)
            if asked.stream:
                return StreamingResponse(self._events(self._stream(asked)), media_type="text/event-stream")
            status, content = 200, await self._found(request, asked)
        except Exception as error:
            status, content = status_of(error), {"error": str(error)}
            if isinstance(error, QueueFullError):
                headers["Retry-After"] = "1"
        self._count(status)
        return JSONResponse(content, status, headers)

    async def _body(self, request: Any) -> bytes:
        """The bytes of a request, which may not be more than the limit, nor take longer to arrive."""
        maximum, parts, size = self._limits.max_body, [], 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > maximum:
                        raise _Refused(413, f"the body must have at most {maximum:,} bytes")
                    parts.append(part)
        except TimeoutError:
            raise _Refused(408, f"the body must arrive within {self._limits.body_seconds} seconds") from None
        return b"".join(parts)

    async def _found(self, request: Any, asked: Asked) -> dict[str, Any]:
        """The content of an answer. When the client goes, what it asked for is cancelled."""
        found = asyncio.gather(*map(asyncio.wrap_future, submit(self._predictor, asked)))
        gone = asyncio.create_task(_disconnected(request))
        gone.add_done_callback(lambda _: found.cancel())
        try:
            return answer_of(self._predictor, asked, await found)
        except asyncio.CancelledError:
            if gone.done():
                raise _Refused(499, "the client is gone") from None
            raise
        finally:
            gone.cancel()

    def _stream(self, asked: Asked) -> TextStream:
        if not isinstance(self._predictor, Translator | LanguageModel):
            raise ValueError(f"request: stream needs a model that writes text, got {type(self._predictor).__name__}")
        return self._predictor.stream(asked.texts[0], **asked.options)

    async def _events(self, stream: TextStream) -> AsyncIterator[str]:
        """Server-sent events: a JSON object with "text" for each piece, and one with "done" or "error" at the end."""
        status = 499  # until the end, in case that the client goes
        try:
            async for piece in stream:
                yield _event({"text": piece})
            status = 200
            yield _event({"done": True})
        except Exception as error:
            status = status_of(error)
            yield _event({"error": str(error)})
        finally:
            stream.close()
            self._count(status)

    def _count(self, status: int) -> None:
        self._metrics.count(status, self._texts, time.monotonic() - self._start)


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    match error:
        case _Refused():
            return error.status
        case QueueFullError() | MemoryError():
            return 503
        case TypeError() | ValueError():
            return 400
        case _:
            return 500


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


async def _disconnected(request: Any) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
