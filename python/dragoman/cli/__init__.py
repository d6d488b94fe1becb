"""The command line: dragoman train | translate | evaluate | info | bench | demo."""

from dragoman.cli.main import main

__all__ = ["main"]
