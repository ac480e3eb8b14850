"""A response cache with conditional requests for any WSGI application; see `cache_asgi`.

What was served stale is fetched anew on the same worker, once the server has closed the response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.core.flow import step
from backendkit.http.cache_rule import (
    ERRORS,
    NOTHING,
    CacheRule,
    Stored,
    changes,
    find,
    judge,
    keep,
    url_key,
)
from backendkit.http.cache_turns import (
    ROUNDS,
    Verdict,
    turn_key,
    understood,
    verdict_of,
    waits,
)
from backendkit.http.response_store import BlockingWorld
from backendkit.http.responses import UNCACHED, Asked, Response
from backendkit.http.wsgi import App, Environ, ExcInfo, Headers, StartResponse, status_line


class WsgiCache:
    """Stores responses and answers conditional requests.

    Args:
        app: any WSGI application. Compression belongs inside: a tag is of the bytes that are sent.
        rule: what is stored.
    """

    __slots__ = ("_refreshing", "_world", "app", "rule")

    def __init__(self, app: App, rule: CacheRule) -> None:
        self.app = app
        self.rule = rule
        self._world = None if rule.store is None else BlockingWorld(rule.store)
        self._refreshing: dict[str, object] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        asked = asked_of(environ)
        stored = NOTHING
        if self._world is not None and self.rule.shares(asked):
            stored = step(find(self.rule, asked, self._world))
            verdict = judge(self.rule, asked, stored)
            if verdict == "refuse":
                return reply(start_response, UNCACHED)
            if verdict != "fetch":
                body = reply(start_response, stored.aged().answer(asked))
                if verdict == "serve":
                    return body
                return _Afterwards(body, lambda: self._refresh(environ, asked, stored))
        exchange = _Exchange(environ, start_response)
        if self._world is not None and waits(self.rule, asked, stored):
            return self._in_turn(exchange, asked, stored, self._world)
        return self._fetch(exchange, asked, stored).give()

    def _in_turn(
        self, exchange: _Exchange, asked: Asked, stored: Stored, world: BlockingWorld
    ) -> Iterable[bytes]:
        """Wait for what another request brings, or ask the application for all who wait."""
        verdict: Verdict = "again"
        for _ in range(ROUNDS):
            mine, verdict = self._turn(exchange, asked, stored, world)
            if mine is not None:
                return mine.give()
            if verdict in ("pass", "failed"):
                break
            stored = step(find(self.rule, asked, world))
            if judge(self.rule, asked, stored) == "serve":
                return reply(exchange.start_response, stored.aged().answer(asked))
        if verdict == "failed" and stored.helps:
            return reply(exchange.start_response, stored.aged().answer(asked))
        return self._fetch(exchange, asked, stored).give()

    def _turn(
        self, exchange: _Exchange, asked: Asked, stored: Stored, world: BlockingWorld
    ) -> tuple[_Fetched | None, Verdict]:
        """Take this request's turn and return what came of it; or None, and what became of another one's."""
        mine: list[_Fetched] = []

        def load() -> str:
            again = step(find(self.rule, asked, world))
            if judge(self.rule, asked, again) == "serve":
                body = reply(exchange.start_response, again.aged().answer(asked))
                mine.append(_Fetched("kept", body))
            else:
                mine.append(self._fetch(exchange, asked, again))
            return mine[0].verdict

        pass_s = checks.duration_us("pass_for", self.rule.pass_for) / SECOND_US
        try:
            verdict = understood(world.turn(turn_key(stored), load, pass_s))
        except Exception:  # noqa: BLE001 - the application's are caught where it is called
            if not mine:  # a store that raises has nothing to say here
                return None, "pass"
            verdict = mine[0].verdict
        return (mine[0] if mine else None), verdict

    def _fetch(self, exchange: _Exchange, asked: Asked, stored: Stored) -> _Fetched:
        """Ask the application; its error is given to the request that asked, and to no other."""
        helps, start_response = stored.helps, exchange.start_response
        held = _Held(start_response, self.rule.max_body)
        try:
            body = held.run(self.app, exchange.environ, whole=asked.method in ("GET", "HEAD"))
        except Exception as error:  # noqa: BLE001 - `give` raises it, outside of the store's load
            if not helps or held.begun:
                return _Fetched("failed", (), error)
            return _Fetched("failed", reply(start_response, stored.aged().answer(asked)))
        if self._world is not None and changes(asked, held.status):
            step(self._world.invalidate(url_key(asked.url)))
        response = held.response
        if response is None:
            return _Fetched("failed" if held.status in ERRORS else "pass", body)
        if helps and response.status in ERRORS:
            return _Fetched("failed", reply(start_response, stored.aged().answer(asked)))
        response = response if asked.method == "HEAD" else response.tagged()
        if self._world is not None:
            step(keep(self.rule, asked, response, stored, self._world))
        body = reply(start_response, response.answer(asked), held.exc_info)
        return _Fetched(verdict_of(self.rule, asked, response), body)

    def _refresh(self, environ: Environ, asked: Asked, stored: Stored) -> None:
        """Fetch anew what was served stale."""
        place, mine, world = stored.spot, object(), self._world
        if world is None or self._refreshing.setdefault(place, mine) is not mine:
            return
        inner = {key: value for key, value in environ.items() if not key.startswith("HTTP_IF_")}
        inner["REQUEST_METHOD"] = "GET"
        bare = Asked(
            "GET", asked.url, [pair for pair in asked.headers if not pair[0].startswith("if-")]
        )
        try:
            _close(self._in_turn(_Exchange(inner, _nowhere), bare, stored, world))
        finally:
            self._refreshing.pop(place, None)


class _Exchange(NamedTuple):
    """A request, as WSGI has it."""

    environ: Environ
    start_response: StartResponse


class _Fetched(NamedTuple):
    """What the application has answered, what that means for others who wait, and the error that it raised."""

    verdict: Verdict
    body: Iterable[bytes]
    error: Exception | None = None

    def give(self) -> Iterable[bytes]:
        """Return the body, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.body


class _Held:
    """A response on its way out, held back where it can be."""

    __slots__ = (
        "_headers", "_most", "_start_response", "_status_line", "_written", "begun", "exc_info", "response", "status",
    )  # fmt: skip

    def __init__(self, start_response: StartResponse, most: int) -> None:
        self._start_response = start_response
        self._most = most
        self._status_line = ""
        self._headers: Headers = []
        self._written: list[bytes] = []
        self.exc_info: ExcInfo | None = None
        self.begun = False
        self.status = 500
        self.response: Response | None = None

    def run(self, app: App, environ: Environ, *, whole: bool) -> Iterable[bytes]:
        """Call the application; afterwards there is a whole response, or it has begun and this is its body."""
        body = app(environ, self._start)
        wrapper = environ.get("wsgi.file_wrapper")
        is_file = isinstance(wrapper, type) and isinstance(body, wrapper)
        if not whole or is_file or not self._fits(body):
            self._begin()
            return _Joined(self._written, body) if self._written else body
        try:
            pieces = b"".join(
                body
            )  # an application may begin its response as late as with its first piece
        finally:
            _close(body)
        self.response = Response(self.status, self._headers, b"".join(self._written) + pieces)
        return ()

    def _start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        self._status_line, self._headers, self.exc_info = status, list(headers), exc_info
        self.status = int(status[:3])
        if self.begun:
            return self._begin()
        return self._written.append

    def _begin(self) -> Callable[[bytes], object]:
        self.begun = True
        if not self._status_line:  # it begins with its first piece
            return self._written.append
        if self.exc_info is None:
            return self._start_response(self._status_line, self._headers)
        return self._start_response(self._status_line, self._headers, self.exc_info)

    def _fits(self, body: Iterable[bytes]) -> bool:
        if isinstance(body, list | tuple) and len(body) <= 1:
            return True
        lengths = [value for name, value in self._headers if name.lower() == "content-length"]
        return bool(lengths) and lengths[0].isdigit() and int(lengths[0]) <= self._most


class _Joined:
    """What was written the old way, and then the body."""

    __slots__ = ("_body", "_written")

    def __init__(self, written: list[bytes], body: Iterable[bytes]) -> None:
        self._written = written
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield from self._written
        yield from self._body

    def close(self) -> None:
        """Let the application clean up."""
        _close(self._body)


class _Afterwards:
    """A body after whose end something is done."""

    __slots__ = ("_body", "_then")

    def __init__(self, body: Iterable[bytes], then: Callable[[], None]) -> None:
        self._body = body
        self._then = then

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Do it."""
        self._then()


def asked_of(environ: Environ) -> Asked:
    """Return a request, read off its environ."""
    headers = [
        (key[5:].replace("_", "-").lower(), str(value))
        for key, value in environ.items()
        if key.startswith("HTTP_")
    ]
    host = str(environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")).lower()
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    url = (environ.get("wsgi.url_scheme", "http"), host, path, environ.get("QUERY_STRING", ""))
    return Asked(environ["REQUEST_METHOD"], url, headers)


def reply(
    start_response: StartResponse, response: Response, exc_info: ExcInfo | None = None
) -> list[bytes]:
    """Begin a whole response, and return its body."""
    line = status_line(response.status)
    if exc_info is None:
        start_response(line, list(response.headers))
    else:
        start_response(line, list(response.headers), exc_info)
    return [response.body]


def _close(body: Iterable[bytes]) -> None:
    close: Callable[[], object] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _nowhere(status: str, headers: Headers, exc_info: ExcInfo | None = None, /) -> Callable[[bytes], object]:  # fmt: skip
    """Take what nobody waits for."""
    return bytes
