"""serve: runs the application until the process is told to end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dragoman import arguments
from dragoman.predict import Predictor
from dragoman.server.app import NO_EXTRA, make_app
from dragoman.server.limits import Limits

_GRACE = 30  # seconds for the answers that are being made


def serve(predictor: Predictor, host: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None) -> None:
    """Serves a model over HTTP until SIGTERM or Ctrl-C; then answers what has come, for 30 seconds, and closes it.

    Args:
        predictor: as of `make_app`.
        host: the address to listen on; "0.0.0.0" for every one.
        port: 0 for any that is free.
        limits: as of `make_app`.

    Raises:
        ModuleNotFoundError: without the extra `serve`.
        TypeError, ValueError: naming the argument.
        OSError: the address cannot be listened on.
    """
    arguments.check_types("serve", str, host=host)
    port = arguments.integer("serve", "port", port, 0, 2**16)
    app = make_app(predictor, limits)
    try:
        import uvicorn
    except ModuleNotFoundError:
        raise ModuleNotFoundError(NO_EXTRA) from None
    with predictor, _listener(host, port) as listener:
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_GRACE, lifespan="off")
        server = uvicorn.Server(config)
        with _ended_by_signals(server):
            print(f"serving on http://{_shown(listener)}", flush=True)
            server.run(sockets=[listener])


@contextmanager
def _ended_by_signals(server: Any) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM end the server, also before it has handlers of its own; a SIGINT is raised at the end.

    While uvicorn runs, its own handlers replace these; when it is done, it sends these the signals that it got.
    A process that a shell has started in the background ignores SIGINT by default: a server still ends at it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = set()

    def end(number: int, _: object) -> None:
        received.add(number)
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in received:
        raise KeyboardInterrupt


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
