"""How far a command is, for who waits at a terminal."""

from __future__ import annotations

import sys


class Bar:
    """A progress bar on standard error, where that is a terminal."""

    _WIDTH = 30

    def __init__(self) -> None:
        self._shown = ""
        self._terminal = sys.stderr.isatty()

    def show(self, what: str, done: int, of: int) -> None:
        """Show how far it is, if that has changed."""
        if not self._terminal:
            return
        share = min(1.0, done / of) if of else 0.0
        filled = int(share * self._WIDTH)
        text = f"{what} [{'#' * filled}{'.' * (self._WIDTH - filled)}] {share:4.0%}"
        if text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave no trace."""
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")
