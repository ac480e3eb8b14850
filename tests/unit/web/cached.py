"""A site behind the response cache, over ASGI or WSGI, whose answers can be changed and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from backendkit.cache import Cache
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.http import AsgiCache, CacheRule, WsgiCache
from backendkit.stores import MemoryStore
from backendkit.testing import Answer, AsgiClient, WsgiClient


class Site:
    """An application whose answers can be changed, counted, and served over both."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status = 200
        self.headers: list[tuple[str, str]] = [("Cache-Control", "max-age=60")]
        self.body: bytes | list[bytes] = b"hello"
        self.error: Exception | None = None
        self.during: Callable[[], Any] = lambda: None
        self.echo: str | None = None

    def respond(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], list[bytes]]:  # fmt: skip
        """Answer one request."""
        self.calls.append(f"{method} {path}")
        self.during()
        if self.error is not None:
            raise self.error
        body = self.body if isinstance(self.body, list) else [self.body]
        if self.echo is not None:
            body = [headers.get(self.echo, "none").encode()]
        return self.status, self.headers, [] if method == "HEAD" else body

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve over ASGI."""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, given_, body = self.respond(scope["method"], scope["path"], headers)
        raw = [(name.lower().encode(), value.encode()) for name, value in given_]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for place, piece in enumerate(body or [b""]):
            more = place + 1 < len(body)
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    def wsgi(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Serve over WSGI."""
        headers = {
            k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k[:5] == "HTTP_"
        }
        status, given_, body = self.respond(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], headers
        )
        start_response(f"{status} Said", list(given_))
        return body


class Served:
    """A site behind the cache, in one colour."""

    def __init__(self, colour: str) -> None:
        self.site = Site()
        self.clock = ManualClock()
        self.cache = Cache(MemoryStore(clock=self.clock))
        self.colour = colour
        self.use()

    def use(self, **rule: Any) -> None:
        """Set the rule."""
        self.rule = CacheRule(**{"store": self.cache, "clock": self.clock, **rule})
        if self.colour == "asgi":
            self._asgi = AsgiClient(AsgiCache(self.site.asgi, self.rule)).sync
        else:
            self._wsgi = WsgiClient(WsgiCache(self.site.wsgi, self.rule))

    def ask(self, method: str = "GET", path: str = "/a", **headers: str) -> Answer:
        """Ask, with headers by their names."""
        given_ = {name.replace("_", "-"): value for name, value in headers.items()}
        client = self._asgi if self.colour == "asgi" else self._wsgi
        return client.request(method, path, headers=given_)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(int(seconds * SECOND_US))

    @property
    def calls(self) -> int:
        """How often the site was asked."""
        return len(self.site.calls)
