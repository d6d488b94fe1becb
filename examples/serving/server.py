"""Serves a model over HTTP, without anything beyond Python's library.

python examples/serving/server.py DIR [--host 127.0.0.1] [--port 8000]

    curl --data-binary @sentences.txt http://localhost:8000/translate

The body of a request is UTF-8 text, a sentence a line; the answer has as many lines. GET /health answers "ok".
There is no encryption and no password: put it behind a server that has them.
"""

import argparse
import logging
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dragoman import Translator

MAX_BYTES = 64 * 1024  # of a request
MAX_CHARACTERS = 2000  # of a line
MAX_LENGTH = 512  # tokens of a translation


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    timeout = 30  # seconds for a client to send its request

    def do_GET(self) -> None:
        self.answer(*((200, "ok\n") if self.path == "/health" else (404, "there are /translate and /health\n")))

    def do_POST(self) -> None:
        if self.path != "/translate":
            return self.answer(404, "POST goes to /translate\n")
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return self.answer(411, "Content-Length must say how many bytes follow\n")
        if not 0 <= size <= MAX_BYTES:
            return self.answer(413, f"a request has at most {MAX_BYTES} bytes, got {size}\n")
        try:
            lines = self.rfile.read(size).decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            return self.answer(400, f"the text must be UTF-8: {error.reason} at byte {error.start}\n")
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_CHARACTERS:
                return self.answer(413, f"line {number}: at most {MAX_CHARACTERS} characters, got {len(line)}\n")
        try:
            found = self.server.translator(lines, max_length=MAX_LENGTH)
        except MemoryError:
            return self.answer(503, "out of memory; try fewer or shorter lines\n")
        self.answer(200, "".join(" ".join(text.splitlines()) + "\n" for text in found))

    def answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        logging.info("%s %s", self.address_string(), format % arguments)


class Server(ThreadingHTTPServer):
    """A thread for each request; the translator takes one at a time, on all cores."""

    def __init__(self, translator: Translator, host: str, port: int) -> None:
        self.translator = translator
        super().__init__((host, port), Handler)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves a model over HTTP.")
    parser.add_argument("folder", metavar="DIR", help="a trained model")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for every address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # in a container nothing else ends the first process
    try:
        translator = Translator.load(options.folder)
    except (OSError, ValueError) as error:
        parser.error(f"{options.folder} is not a model to serve: {error}")
    with Server(translator, options.host, options.port) as server:
        logging.info("serving %s on port %d", options.folder, server.server_port)
        server.serve_forever()


if __name__ == "__main__":
    main()
