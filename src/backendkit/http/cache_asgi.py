"""A response cache with conditional requests for any ASGI application: plain middleware.

A response that comes in one piece, or says how long it is, is held back until it is whole, tagged, stored if the rule
allows, and answered as the request's conditions say, before whatever the application does in the background. All else
passes through as it comes: streams, event streams, large files, websockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.http import cache_rule as rules
from backendkit.http.cache_rule import CacheRule, Stored
from backendkit.http.cache_turns import (  # fmt: skip
    ROUNDS,
    Offer,
    Turn,
    Verdict,
    turn_key,
    understood,
    verdict_of,
    waits,
)
from backendkit.http.messages import App, Message, Receive, Scope, Send, encoded, place
from backendkit.http.reporting import report
from backendkit.http.response_store import AwaitingWorld
from backendkit.http.responses import UNCACHED, Asked, Response

Decide = Callable[[Verdict], object]


class AsgiCache:
    """Stores responses and answers conditional requests.

    Args:
        app: any ASGI application. Compression belongs inside: a tag is of the bytes that are sent.
        rule: what is stored.
    """

    __slots__ = ("_asking", "_refreshing", "_world", "app", "rule")

    def __init__(self, app: App, rule: CacheRule) -> None:
        self.app = app
        self.rule = rule
        self._world = None if rule.store is None else AwaitingWorld(rule.store.aio)
        self._refreshing: set[str] = set()
        self._asking: set[asyncio.Task[Verdict]] = set()  # the loop holds its tasks weakly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = asked_of(scope)
        verdict, stored = await rules.look(self.rule, asked, self._world)
        if verdict == "refuse":
            await reply(send, UNCACHED)
        elif verdict != "fetch":
            await reply(send, stored.aged().answer(asked))
            if verdict == "serve stale":
                await self._refresh(scope, asked, stored)
        else:
            exchange = _Exchange(self.rule, self._world, asked, send)
            if self._world is not None and waits(self.rule, asked, stored):
                await self._in_turn(exchange, scope, receive, stored, self._world)
            else:
                await exchange.fetch(self.app, scope, receive, stored)

    async def _in_turn(
        self, exchange: _Exchange, scope: Scope, receive: Receive, stored: Stored, world: AwaitingWorld
    ) -> None:  # fmt: skip
        """Wait for what another request brings, or ask the application for all who wait."""
        offer: Offer = "again"
        for _ in range(ROUNDS):
            offer = await self._turn(exchange, scope, receive, stored, world)
            if offer == "yours":
                return
            if offer in ("pass", "failed"):
                break
            verdict, stored = await rules.look(self.rule, exchange.asked, world)
            if verdict == "serve":
                await exchange.give(stored)
                return
            if stored.place is None:  # the store has failed: there is nothing to wait for
                break
        if offer == "failed" and stored.helps:
            await exchange.give(stored)
        else:
            await exchange.fetch(self.app, scope, receive, stored)

    async def _turn(
        self, exchange: _Exchange, scope: Scope, receive: Receive, stored: Stored, world: AwaitingWorld
    ) -> Offer:  # fmt: skip
        """Return what became of another request's turn, or take this one's and return `yours`."""
        turn = Turn()
        asking = asyncio.get_running_loop().create_task(self._ask(turn, stored, world))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        asking.add_done_callback(turn.over)
        try:
            offer = await turn.offer
            if offer == "yours":
                verdict, again = await rules.look(self.rule, exchange.asked, world)
                if verdict == "serve":
                    turn.decide("kept")
                    await exchange.give(again)
                else:
                    exchange.decide = turn.decide
                    # The store wants it whole; asked for in place, for frames look there.
                    scope["headers"] = unconditional(scope)
                    await exchange.fetch(self.app, scope, receive, again)
            return offer
        finally:
            turn.decide("again")

    async def _ask(self, turn: Turn, stored: Stored, world: AwaitingWorld) -> Verdict:
        pass_s = checks.duration_us("pass_for", self.rule.pass_for) / SECOND_US
        return understood(await world.turn(turn_key(stored), turn.load, pass_s))

    async def _refresh(self, scope: Scope, asked: Asked, stored: Stored) -> None:
        """Fetch anew what was served stale; the client has its answer already."""
        spot, world = stored.spot, self._world
        if spot in self._refreshing or world is None:
            return
        inner = {**scope, "method": "GET", "headers": unconditional(scope)}
        nobody = _Nobody()
        exchange = _Exchange(self.rule, world, asked_of(inner), nobody.send)
        self._refreshing.add(spot)
        try:
            await self._in_turn(exchange, inner, nobody.receive, stored, world)
        except Exception:
            if not nobody.refused:  # else it is what the application makes of that
                raise
        finally:
            self._refreshing.discard(spot)


class _Exchange:
    """A request, and its response on its way out, held back where it can be."""

    __slots__ = (
        "_body", "_most", "_mute", "_rule", "_send", "_size", "_start", "_status", "_stored", "_world", "asked", "begun", "decide",
    )  # fmt: skip

    def __init__(
        self, rule: CacheRule, world: AwaitingWorld | None, asked: Asked, send: Send
    ) -> None:
        self._rule = rule
        self._world = world
        self._send = send
        self._stored = rules.NOTHING
        self._start: Message | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._status = 500
        self._mute = False
        self.asked = asked
        self.begun = False
        self.decide: Decide = _nobody_waits

    async def give(self, stored: Stored) -> None:
        """Answer by what is stored."""
        self.begun = True
        await reply(self._send, stored.aged().answer(self.asked))

    async def fetch(self, app: App, scope: Scope, receive: Receive, stored: Stored) -> None:
        """Ask the application; those who wait are told as soon as it is known what that means for them."""
        self._stored = stored
        try:
            await app(scope, receive, self._take)
            if self._start is not None:  # it went away in the middle: the server shall see that
                await self._let_go(more=True)
        except Exception as error:
            self.decide("failed")
            if self.begun or not stored.helps:
                raise
            report(error, place(scope))
            await self.give(stored)
        finally:
            await (
                self._drop()
            )  # once more: what is committed after the response, or in the background

    async def _drop(self) -> None:
        if self._world is not None and rules.changes(self.asked, self._status):
            await self._world.invalidate(rules.url_key(self.asked.url))

    async def _take(self, message: Message) -> None:
        """Take a message, or pass it on."""
        kind = message["type"]
        if kind == "http.response.start" and not self.begun and self._start is None:
            await self._begin(message)
        elif self._start is None:  # before the response, or behind what was sent
            await self._pass(message)
        elif kind == "http.response.body":
            await self._gather(message.get("body", b""), more=message.get("more_body", False))
        else:  # a path to send, whatever else a server can do
            await self._let_go()
            await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if not self._mute:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        self._status, self._start = message["status"], message
        await self._drop()  # before the client hears of it, and asks again
        head = self._response()
        verdict = verdict_of(self._rule, self.asked, head)
        if verdict == "pass":  # nobody need wait for its end
            self.decide("pass")
        long = (told := head.line("content-length") or "").isdigit() and int(
            told
        ) > self._rule.max_body
        if (
            self.asked.method not in ("GET", "HEAD")
            or long
            or head.streams
            or message.get("trailers")
        ):
            await self._let_go()

    async def _gather(self, piece: bytes, *, more: bool) -> None:
        self._body.append(piece)
        self._size += len(piece)
        if self._size > self._rule.max_body:
            await self._let_go(more=more)
        elif not more:
            await self._answer(self._response(b"".join(self._body)))
        elif self._response().line("content-length") is None:
            await self._let_go(more=True)

    async def _answer(self, response: Response) -> None:
        """Store a whole response, tell those who wait, and send it."""
        self._start = None
        if self._stored.helps and response.status in rules.ERRORS:
            self.decide("failed")
            await self.give(self._stored)
            return
        if self.asked.method == "GET":
            response = response.tagged()
        self.decide(await rules.keep(self._rule, self.asked, response, self._stored, self._world))
        self.begun = True
        await reply(self._send, response.answer(self.asked))

    async def _let_go(self, *, more: bool | None = None) -> None:
        """Send what was held back; all that follows passes through."""
        head, start = self._response(), self._start or {}
        self._start = None
        self.begun = True
        self.decide("failed" if self._status in rules.ERRORS else "pass")
        if head.unchanged(self.asked) and self.asked.method in ("GET", "HEAD"):
            self._mute = True
            await reply(self._send, head.answer(self.asked))
            return
        await self._send(start)
        if more is not None:
            body = b"".join(self._body)
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _response(self, body: bytes = b"") -> Response:
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in (self._start or {}).get("headers", ())
        ]
        return Response(self._status, headers, body)


class _Nobody:
    """The client of a response that only the store waits for: it hangs up once there is nothing to store."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.refused = False
        self._asked = False

    async def receive(self) -> Message:
        """Say that there is no body, and then nothing until it is over."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the beginning, and an end that follows; to who goes on, the connection is gone."""
        if self.gone.is_set() and message.get("more_body", False):
            self.refused = True
            raise OSError("nobody waits for more")
        self.gone.set()


def asked_of(scope: Scope) -> Asked:
    """Return a request, read off its scope."""
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    host = next((value for name, value in headers if name == "host"), "").lower()
    query = scope.get("query_string", b"").decode("latin-1")
    raw: bytes | None = scope.get("raw_path")
    path = rules.travelling(raw) if raw else rules.escaped(scope["path"])
    url = (str(scope.get("scheme", "http")), host, path, query)
    tls: Mapping[str, Any] = (scope.get("extensions") or _NONE).get("tls") or _NONE
    known = bool(tls.get("client_cert_chain"))
    return Asked(scope["method"], url, headers, known)


def unconditional(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return a request's headers without what they say about what its client has."""
    return [pair for pair in scope["headers"] if not pair[0].lower().startswith(b"if-")]


async def reply(send: Send, response: Response) -> None:
    """Send a whole response."""
    headers = encoded(response.headers)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _nobody_waits(verdict: Verdict) -> None:
    """Take what nobody waits for."""


_NONE: Mapping[str, Any] = {}
