"""Fetching a key set over HTTPS with the standard library: no redirects, bounded bytes, bounded time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from threading import Timer
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import InvalidArgument

LARGEST_BODY = 256 << 10
"""Bytes of a key set; a hundred RSA keys with their certificates fit."""

SILENCE_S = 5.0
"""For how long the other side may say nothing."""

LONGEST_US = 10 * SECOND_US
"""For how long it may speak, however slowly."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Answer(NamedTuple):
    """What came back: a status, the headers by lower-case name, and the body, cut off just above the bound."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport: TypeAlias = Callable[[str, Mapping[str, str]], Any]
"""`(url, headers) -> Answer`, `def` or, for the asynchronous face, `async def`; raises where there is no answer.

It must not follow redirects, and should stop reading at `LARGEST_BODY`.
"""


def checked_url(url: str, *, loopback: bool) -> str:
    """Return a URL that keys may come from.

    Args:
        url: https, with a host, without user, password and fragment.
        loopback: whether plain http to this machine will do: for tests.

    Raises:
        InvalidArgument: naming the rule; a URL with a password is not shown.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise InvalidArgument("url", "must be a URL", "unreadable text") from None
    if "@" in parts.netloc:
        raise InvalidArgument("url", "must not hold a user or password", parts.hostname)
    if parts.fragment or not parts.hostname or not url.isascii() or not url.isprintable():
        raise InvalidArgument("url", "must have a host and no fragment, in ASCII", url)
    local = loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not local:
        raise InvalidArgument("url", "must begin with https://", url)
    return url


def https(clock: Clock) -> Transport:
    """Return the transport of the standard library; it trusts the machine's certificate authorities."""

    def fetch(url: str, headers: Mapping[str, str]) -> Answer:
        begun = clock.mono_us()
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=SILENCE_S)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            with _cut_off(connection):
                connection.request("GET", target, headers=dict(headers))
                answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            body = b""
            while len(body) <= LARGEST_BODY and (piece := answer.read1(65_536)):
                body += piece
                if clock.mono_us() - begun > LONGEST_US:
                    raise TimeoutError("the key set came too slowly")
            return Answer(answer.status, named, body)
        finally:
            connection.close()

    return fetch


@contextmanager
def _cut_off(connection: HTTPConnection) -> Generator[None]:
    """Cut a connection whose block takes too long: headers may drip for ever without one silence being too long."""

    def cut() -> None:
        late.append(True)
        if connection.sock is not None:
            with suppress(OSError):  # it has just ended by itself
                connection.sock.shutdown(SHUT_RDWR)

    late: list[bool] = []
    timer = Timer(LONGEST_US / SECOND_US, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if not late:
            raise
    finally:
        timer.cancel()
    if late:  # what was cut may also look like headers that have ended
        raise TimeoutError("the key set came too slowly")
