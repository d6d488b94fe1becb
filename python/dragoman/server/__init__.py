"""A small HTTP server for a trained model: JSON in and out, streams, health and metrics. Needs the extra `serve`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dragoman.server.limits import Limits

if TYPE_CHECKING:
    from dragoman.server.app import make_app
    from dragoman.server.run import serve

__all__ = ["Limits", "make_app", "serve"]

_LATER = {"make_app": "dragoman.server.app", "serve": "dragoman.server.run"}  # asyncio takes long to import


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'dragoman.server' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
