"""Request ids: taken from the client or proxy where they are sound, else made."""

from __future__ import annotations

import os
import re

from backendkit.core.errors import InvalidArgument
from backendkit.core.fork import remake_after_fork

HEADER = "X-Request-ID"
"""The header's usual name."""

_STOCK = 100
_SOUND = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")


class RequestIds:
    """How one application names its requests.

    Args:
        header: the header that brings an id in and takes it out again.
        trusted: whether an id that comes in is used; False makes one for every request.

    Attributes:
        header: its name as given.
        key: its name as ASGI has it, lower-case bytes.
        environ_key: its name as WSGI has it, `HTTP_X_REQUEST_ID`.
    """

    __slots__ = ("__weakref__", "_made", "_trusted", "environ_key", "header", "key")

    def __init__(self, header: str = HEADER, *, trusted: bool = True) -> None:
        if not _TOKEN.fullmatch(header):
            raise InvalidArgument("header", "must be 1..64 letters, digits or hyphens", header)
        self.header = header
        self.key = header.lower().encode()
        self.environ_key = "HTTP_" + header.upper().replace("-", "_")
        self._trusted = trusted
        self._made: list[str] = []
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget the ids in stock, which the parent will use."""
        self._made = []

    def make(self) -> str:
        """Return a new id: a random UUID (version 4), from the kernel's bytes, for a hundred requests at once. 0.1 us."""
        try:
            return self._made.pop()  # atomic, so that no two threads get the same
        except IndexError:
            made = _uuids4(os.urandom(16 * _STOCK))
            first = made.pop()  # before other threads see the rest
            self._made = made
            return first

    def choose(self, offered: str | None) -> str:
        """Return the id for a request: `offered` if it is trusted and sound, else a new one.

        Where several were sent, joined by commas as servers join repeated headers, the first counts. An unsound one
        (anything but 1..128 of `A-Za-z0-9._-`) is never reflected and never logged.
        """
        if offered is None or not self._trusted:
            return self.make()
        if _SOUND.fullmatch(offered):
            return offered
        first = offered.partition(",")[0].strip()
        return first if _SOUND.fullmatch(first) else self.make()


def _uuids4(raw: bytes) -> list[str]:
    """Return a UUID for each sixteen bytes. All at once: version and variant are set, and groups are cut, by loops in C."""
    stock = bytearray(raw)
    stock[6::16] = stock[6::16].translate(_VERSION)
    stock[8::16] = stock[8::16].translate(_VARIANT)
    return ["-".join(groups) for groups in _GROUPS.findall(stock.hex())]


_VERSION = bytes(0x40 | byte & 0x0F for byte in range(256))
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))
_GROUPS = re.compile(r"(.{8})(.{4})(.{4})(.{4})(.{12})")
