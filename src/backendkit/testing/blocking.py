"""Clients for tests that are plain functions: what all of them have, and the one of ASGI applications."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backendkit.testing.answers import Answer

if TYPE_CHECKING:
    from backendkit.testing.asgi import AsgiClient


class BlockingClient(ABC):
    """Calls an application and returns its answer."""

    __slots__ = ()

    @abstractmethod
    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the whole answer to a request; arguments as for `AsgiClient.request`."""

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the answer to a GET."""
        return self.request("GET", path, headers=headers)

    def post(
        self,
        path: str,
        *,
        json: object = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to a POST."""
        return self.request("POST", path, headers=headers, json=json, body=body)


class BlockingAsgiClient(BlockingClient):
    """Calls an ASGI application; each call runs on an event loop of its own, so that none may be running.

    Args:
        client: the asynchronous face, which has the rest: streams, websockets, lifespans.
    """

    __slots__ = ("aio",)

    def __init__(self, client: AsgiClient) -> None:
        self.aio = client

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> Answer:
        """See `AsgiClient.request`."""
        return asyncio.run(self.aio.request(method, path, headers=headers, json=json, body=body))
