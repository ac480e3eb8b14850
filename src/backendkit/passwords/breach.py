"""Whether a password is known from breaches, without telling anybody which one it is.

k-anonymity: the first five hexadecimal digits of its SHA-1 are sent, some hundred suffixes come back, and padding
hides how many. SHA-1 is the service's choice; nothing secret rests on it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from hashlib import sha1
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

from backendkit.core.errors import InvalidArgument, ServiceUnavailable
from backendkit.core.events import Hooks
from backendkit.passwords.events import BreachCheckFailed

URL = "https://api.pwnedpasswords.com/range/"
"""The range interface of Have I Been Pwned; any mirror that speaks it will do."""

Transport = Callable[[str], Any]
"""`url -> text`, `def` or, for the asynchronous check, `async def`; raises where there is no answer."""

LARGEST_ANSWER = 256 << 10
"""Bytes; a padded answer has about 40 KiB."""


class BreachCheck:
    """Asks a range service.

    Args:
        transport: fetches a URL; None: the standard library, three seconds at most.
        url: what the five digits are appended to; https only.
        fail_open: whether a password passes that could not be checked; else `ServiceUnavailable`.
        least: how often it must have appeared.
        hooks: told of failures.
    """

    def __init__(
        self,
        transport: Transport | None = None,
        *,
        url: str = URL,
        fail_open: bool = True,
        least: int = 1,
        hooks: Hooks | None = None,
    ) -> None:
        if not url.startswith("https://"):
            raise InvalidArgument("url", "must begin with https://", url)
        self._transport = transport or _fetch
        self._url = url
        self._fail_open = fail_open
        self._least = least
        self._hooks = hooks or Hooks()

    def is_breached(self, password: str) -> bool:
        """Tell whether a password is known. One HTTPS request; blocks."""
        prefix, suffix = digits_of(password)
        try:
            return count_in(self._transport(self._url + prefix), suffix) >= self._least
        except Exception as error:  # noqa: BLE001 - a transport may raise anything
            return self._failed(error)

    async def is_breached_async(self, password: str) -> bool:
        """Tell whether a password is known. One HTTPS request; a blocking transport runs in a thread."""
        prefix, suffix = digits_of(password)
        url = self._url + prefix
        try:
            transport: Any = self._transport
            awaits = inspect.iscoroutinefunction(transport)
            text: Any = await (transport(url) if awaits else asyncio.to_thread(transport, url))
            return count_in(text, suffix) >= self._least
        except Exception as error:  # noqa: BLE001 - a transport may raise anything
            return self._failed(error)

    def _failed(self, error: Exception) -> bool:
        self._hooks.emit(BreachCheckFailed(type(error).__name__, self._fail_open))
        if self._fail_open:
            return False
        raise ServiceUnavailable("the breach check did not answer") from error


def digits_of(password: str) -> tuple[str, str]:
    """Return the five digits that are sent and the 35 that are not."""
    digest = sha1(password.encode("utf-8", "replace"), usedforsecurity=False).hexdigest().upper()
    return digest[:5], digest[5:]


def count_in(text: str, suffix: str) -> int:
    """Return how often a suffix was seen, by the service's answer; padding counts as never."""
    for row in text.splitlines():
        found, _, count = row.partition(":")
        if found.strip().upper() == suffix:
            return int(count)
    return 0


class _NoRedirects(HTTPRedirectHandler):
    """A list that moved may have moved anywhere."""

    def redirect_request(  # noqa: PLR0917 - the standard library's signature
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Follow nothing."""


def _fetch(url: str) -> str:
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "backendkit"})  # noqa: S310 - https only
    with build_opener(_NoRedirects).open(request, timeout=3) as answer:
        body: bytes = answer.read(LARGEST_ANSWER)
    return body.decode("ascii", "replace")
