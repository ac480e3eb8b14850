"""A response cache with conditional requests for any ASGI application: plain middleware.

A response that comes in one piece, or says how long it is, is held back until it is whole, tagged, stored if the rule
allows, and answered as the request's conditions say. All else passes through as it comes: streams, event streams,
large files, websockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
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
    Offer,
    Turn,
    Verdict,
    turn_key,
    understood,
    verdict_of,
    waits,
)
from backendkit.http.messages import App, Message, Receive, Scope, Send, encoded
from backendkit.http.response_store import AwaitingWorld
from backendkit.http.responses import UNCACHED, Asked, Response


class AsgiCache:
    """Stores responses and answers conditional requests.

    Args:
        app: any ASGI application. Compression belongs inside: a tag is of the bytes that are sent.
        rule: what is stored.
    """

    __slots__ = ("_refreshing", "_world", "app", "rule")

    def __init__(self, app: App, rule: CacheRule) -> None:
        self.app = app
        self.rule = rule
        self._world = None if rule.store is None else AwaitingWorld(rule.store.aio)
        self._refreshing: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = asked_of(scope)
        stored = NOTHING
        if self._world is not None and self.rule.shares(asked):
            stored = await find(self.rule, asked, self._world)
            verdict = judge(self.rule, asked, stored)
            if verdict == "refuse":
                await reply(send, UNCACHED)
                return
            if verdict != "fetch":
                await reply(send, stored.aged().answer(asked))
                if verdict == "serve stale":
                    await self._refresh(scope, asked, stored)
                return
        if self._world is not None and waits(self.rule, asked, stored):
            await self._in_turn(_Exchange(scope, receive, send), asked, stored, self._world)
        else:
            await self._fetch(_Exchange(scope, receive, send), asked, stored, _nobody)

    async def _in_turn(
        self, exchange: _Exchange, asked: Asked, stored: Stored, world: AwaitingWorld
    ) -> None:
        """Wait for what another request brings, or ask the application for all who wait."""
        verdict: Offer = "again"
        for _ in range(ROUNDS):
            verdict = await self._turn(exchange, asked, stored, world)
            if verdict == "yours":
                return
            if verdict in ("pass", "failed"):
                break
            stored = await find(self.rule, asked, world)
            if judge(self.rule, asked, stored) == "serve":
                await reply(exchange.send, stored.aged().answer(asked))
                return
        if verdict == "failed" and stored.helps:
            await reply(exchange.send, stored.aged().answer(asked))
        else:
            await self._fetch(exchange, asked, stored, _nobody)

    async def _turn(
        self, exchange: _Exchange, asked: Asked, stored: Stored, world: AwaitingWorld
    ) -> Offer:
        """Return what became of another request's turn, or take this one's and return `yours`."""
        turn = Turn()
        asking = asyncio.get_running_loop().create_task(self._ask(turn, stored, world))
        asking.add_done_callback(turn.over)
        try:
            offer = await turn.offer
            if offer == "yours":
                again = await find(self.rule, asked, world)
                if judge(self.rule, asked, again) == "serve":
                    turn.decide("kept")
                    await reply(exchange.send, again.aged().answer(asked))
                else:
                    await self._fetch(exchange, asked, again, turn.decide)
            return offer
        finally:
            turn.decide("again")

    async def _ask(self, turn: Turn, stored: Stored, world: AwaitingWorld) -> Verdict:
        pass_s = checks.duration_us("pass_for", self.rule.pass_for) / SECOND_US
        return understood(await world.turn(turn_key(stored), turn.load, pass_s))

    async def _fetch(
        self,
        exchange: _Exchange,
        asked: Asked,
        stored: Stored,
        decide: Callable[[Verdict], object],
    ) -> None:
        """Ask the application; `decide` is told as soon as it is known what that means for others."""

        def begins(response: Response, *, passes: bool) -> None:
            verdict = verdict_of(self.rule, asked, response)
            if passes or verdict == "pass":  # nobody need wait for its end
                decide("pass" if verdict == "kept" else verdict)

        send = exchange.send
        held = _Held(send, self.rule.max_body, begins, whole=asked.method in ("GET", "HEAD"))
        helps = stored.helps
        try:
            await self.app(exchange.scope, exchange.receive, held.send)
        except Exception:
            decide("failed")
            if not helps or held.begun:
                raise
            await reply(send, stored.aged().answer(asked))
            return
        if held.response is not None:
            await self._answer(exchange, asked, stored, held.response, decide)
        if self._world is not None and changes(asked, held.status):
            await self._world.invalidate(url_key(asked.url))

    async def _answer(
        self,
        exchange: _Exchange,
        asked: Asked,
        stored: Stored,
        response: Response,
        decide: Callable[[Verdict], object],
    ) -> None:
        """Store a whole response, tell those who wait, and send it."""
        if stored.helps and response.status in ERRORS:
            decide("failed")
            await reply(exchange.send, stored.aged().answer(asked))
            return
        response = response if asked.method == "HEAD" else response.tagged()
        if self._world is not None:
            await keep(self.rule, asked, response, stored, self._world)
        decide(verdict_of(self.rule, asked, response))
        await reply(exchange.send, response.answer(asked))

    async def _refresh(self, scope: Scope, asked: Asked, stored: Stored) -> None:
        """Fetch anew what was served stale; the client has its answer already."""
        place, world = stored.spot, self._world
        if place in self._refreshing or world is None:
            return
        plain = [pair for pair in scope["headers"] if not pair[0].startswith(b"if-")]
        inner = {**scope, "method": "GET", "headers": plain}
        bare = Asked(
            "GET", asked.url, [pair for pair in asked.headers if not pair[0].startswith("if-")]
        )
        self._refreshing.add(place)
        try:
            await self._in_turn(_Exchange(inner, _no_body, _nowhere), bare, stored, world)
        finally:
            self._refreshing.discard(place)


class _Exchange(NamedTuple):
    """A request, as ASGI has it."""

    scope: Scope
    receive: Receive
    send: Send


class _Held:
    """A response on its way out, held back where it can be."""

    __slots__ = (
        "_begins",
        "_body",
        "_most",
        "_send",
        "_start",
        "_whole",
        "begun",
        "response",
        "status",
    )

    def __init__(self, send: Send, most: int, begins: _Begins, *, whole: bool) -> None:
        self._send = send
        self._most = most
        self._begins = begins
        self._whole = whole
        self._start: Message | None = None
        self._body: list[bytes] = []
        self.begun = False
        self.status = 500
        self.response: Response | None = None

    async def send(self, message: Message) -> None:
        """Take a message, or pass it on."""
        kind = message["type"]
        if kind == "http.response.start" and self._start is None and not self.begun:
            self.status = message["status"]
            self._begins(self._response(message), passes=not self._whole)
            if self._whole:
                self._start = message
                return
        elif kind == "http.response.body" and self._start is not None:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._finish()
                return
            if self._fits():
                return
            await self._let_go(more=True)
            return
        elif self._start is not None:  # trailers, a path to send, whatever else a server can do
            await self._let_go(more=None)
        self.begun = True
        await self._send(message)

    def _fits(self) -> bool:
        lengths = [
            value
            for name, value in (self._start or {})["headers"]
            if name.lower() == b"content-length"
        ]
        return bool(lengths) and lengths[0].isdigit() and int(lengths[0]) <= self._most

    def _finish(self) -> None:
        self.response = self._response(self._start or {}, b"".join(self._body))

    def _response(self, start: Message, body: bytes = b"") -> Response:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in start.get("headers", ())
        ]
        return Response(self.status, headers, body)

    async def _let_go(self, *, more: bool | None) -> None:
        start, self._start = self._start, None
        self.begun = True
        if start is not None:
            self._begins(self._response(start), passes=True)
            await self._send(start)
        if more is not None:
            body = b"".join(self._body)
            await self._send({"type": "http.response.body", "body": body, "more_body": more})


def asked_of(scope: Scope) -> Asked:
    """Return a request, read off its scope."""
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    host = next((value for name, value in headers if name == "host"), "").lower()
    query = scope.get("query_string", b"").decode("latin-1")
    path = scope.get("raw_path") or scope["path"].encode()
    url = (str(scope.get("scheme", "http")), host, path.decode("latin-1"), query)
    return Asked(scope["method"], url, headers)


async def reply(send: Send, response: Response) -> None:
    """Send a whole response."""
    headers = encoded(response.headers)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _nobody(verdict: Verdict) -> None:
    """Take what nobody waits for."""


class _Begins(Protocol):
    """Is told how a response begins, and when it passes through."""

    def __call__(self, response: Response, *, passes: bool) -> None: ...


async def _nowhere(message: Message) -> None:
    """Take what nobody waits for."""


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
