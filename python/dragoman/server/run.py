"""serve: runs the application until the process is told to end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
        print(f"serving on http://{_shown(listener)}", flush=True)
        with _quiet_end():
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Inside, SIGTERM does not kill: uvicorn ends at it, and then sends it again to who waited for it before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
