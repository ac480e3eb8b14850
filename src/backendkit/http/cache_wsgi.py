"""A response cache with conditional requests for any WSGI application; see `cache_asgi`.

What was served stale is fetched anew on the same worker, once the server has closed the response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.core.flow import step
from backendkit.http import cache_rule as rules
from backendkit.http.cache_rule import CacheRule, Stored
from backendkit.http.cache_turns import ROUNDS, Verdict, turn_key, understood, verdict_of, waits
from backendkit.http.reporting import report
from backendkit.http.response_store import BlockingWorld
from backendkit.http.responses import UNCACHED, Asked, Response
from backendkit.http.wsgi import App, Environ, ExcInfo, Headers, StartResponse, place, status_line


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
        verdict, stored = step(rules.look(self.rule, asked, self._world))
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
            judged, stored = step(rules.look(self.rule, asked, world))
            if judged == "serve":
                return reply(exchange.start_response, stored.aged().answer(asked))
            if stored.place is None:  # the store has failed: there is nothing to wait for
                break
        if verdict == "failed" and stored.helps:
            return reply(exchange.start_response, stored.aged().answer(asked))
        return self._fetch(exchange, asked, stored).give()

    def _turn(
        self, exchange: _Exchange, asked: Asked, stored: Stored, world: BlockingWorld
    ) -> tuple[_Fetched | None, Verdict]:
        """Take this request's turn and return what came of it; or None, and what became of another one's."""
        mine: list[_Fetched] = []

        def load() -> str:
            judged, again = step(rules.look(self.rule, asked, world))
            if judged == "serve":
                body = reply(exchange.start_response, again.aged().answer(asked))
                mine.append(_Fetched("kept", body))
            else:
                for name in conditions(exchange.environ):
                    del exchange.environ[
                        name
                    ]  # the store wants it whole; asked for in place, for frames look there
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
        held = _Held(exchange, asked, self.rule.max_body, self._dropping(asked))
        try:
            body = held.run(self.app)
        except Exception as error:  # noqa: BLE001 - `give` raises it, outside of the store's load
            if not helps or held.begun:
                return _Fetched("failed", (), error)
            report(error, place(exchange.environ))
            return _Fetched("failed", reply(start_response, stored.aged().answer(asked)))
        response = held.response
        if response is None:
            return _Fetched(self._passing(asked, held), body)
        if helps and response.status in rules.ERRORS:
            answer = reply(start_response, stored.aged().answer(asked))
            return _Fetched("failed", held.closing(answer))
        response = response.tagged() if asked.method == "GET" else response
        verdict = step(rules.keep(self.rule, asked, response, stored, self._world))
        answer = reply(start_response, response.answer(asked), held.exc_info)
        return _Fetched(verdict, held.closing(answer))

    def _passing(self, asked: Asked, held: _Held) -> Verdict:
        """Say what a response that passes through means for those who wait."""
        verdict = verdict_of(self.rule, asked, held.head)
        return "pass" if verdict == "kept" else verdict

    def _dropping(self, asked: Asked) -> Callable[[int], None]:
        """Return what drops the pages of a URL, told the status of a response."""
        world = self._world

        def drop(status: int) -> None:
            if world is not None and rules.changes(asked, status):
                step(world.invalidate(rules.url_key(asked.url)))

        return drop

    def _refresh(self, environ: Environ, asked: Asked, stored: Stored) -> None:
        """Fetch anew what was served stale."""
        spot, mine, world = stored.spot, object(), self._world
        if world is None or self._refreshing.setdefault(spot, mine) is not mine:
            return
        inner = {**environ, "REQUEST_METHOD": "GET"}
        for name in conditions(inner):
            del inner[name]
        try:
            _close(self._in_turn(_Exchange(inner, _nowhere), asked_of(inner), stored, world))
        finally:
            self._refreshing.pop(spot, None)


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
    """A response on its way out, held back where it can be.

    `drop` is told its status before it is sent, and once more when all is done: what is committed late was
    asked for by others in between.
    """

    __slots__ = (
        "_asked", "_body", "_drop", "_environ", "_headers", "_late", "_most", "_start_response", "_status_line", "_written",
        "begun", "exc_info", "response", "status",
    )  # fmt: skip

    def __init__(
        self, exchange: _Exchange, asked: Asked, most: int, drop: Callable[[int], None]
    ) -> None:
        self._environ, self._start_response = exchange
        self._asked = asked
        self._most = most
        self._drop = drop
        self._late = False
        self._body: Iterable[bytes] = ()
        self._status_line = ""
        self._headers: Headers = []
        self._written: list[bytes] = []
        self.exc_info: ExcInfo | None = None
        self.begun = False
        self.status = 500
        self.response: Response | None = None

    @property
    def head(self) -> Response:
        """The response without its body."""
        return Response(self.status, self._headers, b"")

    def run(self, app: App) -> Iterable[bytes]:
        """Call the application; afterwards there is a whole response, or it has begun and this is its body."""
        body = app(self._environ, self._start)
        self._late = True
        if self._asked.method not in ("GET", "HEAD"):
            return self._change(body)
        wrapper = self._environ.get("wsgi.file_wrapper")
        is_file = isinstance(wrapper, type) and isinstance(body, wrapper)
        if is_file or not self._fits(body):
            return self._pass(body, body)
        # An application may begin its response as late as with its first piece.
        pieces, size = iter(body), sum(map(len, self._written))
        try:
            for piece in pieces:
                self._written.append(piece)
                size += len(piece)
                if size > self._most:
                    return self._pass(body, pieces)
        except BaseException:
            _close(body)
            raise
        self._body = body
        self.response = self.head._replace(body=b"".join(self._written))
        return ()

    def closing(self, answer: list[bytes]) -> Iterable[bytes]:
        """Return an answer that lets the application clean up when it is out, as it would have been."""
        body = self._body
        return _Afterwards(answer, lambda: _close(body)) if hasattr(body, "close") else answer

    def _change(self, body: Iterable[bytes]) -> Iterable[bytes]:
        self._drop(self.status if self._status_line else 0)
        self._begin()
        joined = _Joined(self._written, body, body) if self._written else body
        if isinstance(body, list | tuple):
            return joined
        return _Afterwards(joined, lambda: self._drop(self.status))

    def _pass(self, body: Iterable[bytes], rest: Iterable[bytes]) -> Iterable[bytes]:
        """Send what there is and let the rest follow, or nothing of it where the client has it already."""
        head = self.head
        if self._status_line and head.unchanged(self._asked):
            _close(body)
            self.begun = True
            return reply(self._start_response, head.answer(self._asked), self.exc_info)
        self._begin()
        return _Joined(self._written, rest, body) if self._written else body

    def _start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        self._status_line, self._headers, self.exc_info = status, list(headers), exc_info
        self.status = int(status[:3])
        if self._late:
            self._drop(self.status)
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
        head = self.head
        told = head.line("content-length")
        if told is not None:
            return told.isdigit() and int(told) <= self._most
        return isinstance(body, list | tuple) and len(body) <= 1 and not head.streams


class _Joined:
    """What was written already, and then the rest of a body."""

    __slots__ = ("_body", "_rest", "_written")

    def __init__(self, written: list[bytes], rest: Iterable[bytes], body: Iterable[bytes]) -> None:
        self._written = written
        self._rest = rest
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._written, self._rest)

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
        """Let the application clean up, and do it."""
        try:
            _close(self._body)
        finally:
            self._then()


def asked_of(environ: Environ) -> Asked:
    """Return a request, read off its environ."""
    headers = [
        (key.removeprefix("HTTP_").replace("_", "-").lower(), str(value))
        for key, value in environ.items()
        if key.startswith("HTTP_") or (key in _BARE and value)
    ]
    host = str(environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")).lower()
    path = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    url = (
        str(environ.get("wsgi.url_scheme", "http")),
        host,
        rules.escaped(path.encode("latin-1")),
        str(environ.get("QUERY_STRING", "")),
    )
    known = bool(environ.get("REMOTE_USER")) or environ.get("SSL_CLIENT_VERIFY") == "SUCCESS"
    return Asked(environ["REQUEST_METHOD"], url, headers, known)


def conditions(environ: Environ) -> list[str]:
    """Return the keys of what a request says about what its client has."""
    return [key for key in environ if key.startswith("HTTP_IF_")]


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


_BARE = ("CONTENT_TYPE", "CONTENT_LENGTH")
"""Headers that CGI names without `HTTP_`."""
