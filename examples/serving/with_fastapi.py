"""A service of your own with FastAPI: translations, and streams of them.

pip install 'dragoman[text]' fastapi uvicorn
python examples/serving/with_fastapi.py DIR [--host 127.0.0.1] [--port 8000]

    curl -d '{"text": "A man is reading."}' -H 'Content-Type: application/json' http://localhost:8000/translate
    curl -N -d '{"text": "A man is reading."}' -H 'Content-Type: application/json' http://localhost:8000/stream

`dragoman serve DIR` is a server that is ready to use; this one is to be changed. There is no encryption and no
password: put it behind a server that has them.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator

import uvicorn
from dragoman import Translator
from dragoman.predict import QueueFullError, TextStream
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

WAITING = 1000  # texts that may wait


class Ask(BaseModel):
    """A request. Time and memory grow with all of these, so all are bounded."""

    text: str = Field(max_length=2000)
    beam: int = Field(5, ge=1, le=16)
    max_length: int | None = Field(None, ge=1, le=512)

    def options(self) -> dict[str, int | None]:
        return self.model_dump(exclude={"text"})


def make_app(translator: Translator) -> FastAPI:
    """All requests share a translator, which merges them into batches."""
    app = FastAPI(title="Translations")

    @app.post("/translate")
    async def translate(ask: Ask) -> dict[str, str]:
        try:
            future = translator.submit(ask.text, **ask.options())
        except QueueFullError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        try:
            return {"translation": await asyncio.wrap_future(future)}
        except MemoryError:
            raise HTTPException(503, "out of memory; try shorter texts") from None

    @app.post("/stream")
    async def stream(ask: Ask) -> StreamingResponse:
        try:
            pieces = translator.stream(ask.text, **ask.options())
        except QueueFullError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        return StreamingResponse(until_the_end(pieces), media_type="text/plain; charset=utf-8")

    @app.get("/health")
    async def health() -> str:
        return "ok"

    return app


async def until_the_end(pieces: TextStream) -> AsyncIterator[str]:
    """The pieces; a client that goes ends the work for it."""
    with pieces:
        async for piece in pieces:
            yield piece


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves a model over HTTP.")
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    options = parser.parse_args()
    with Translator.load(options.folder, queue_limit=WAITING) as translator:
        uvicorn.run(make_app(translator), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
