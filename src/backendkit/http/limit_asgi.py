"""Rate limiting for any ASGI application: plain middleware, for requests and for websockets.

It changes nothing of a response but its headers, so that streams stay streams; it stands before routing, so that
mounted applications, included routers and unknown paths are all limited.
"""

from __future__ import annotations

import asyncio
from typing import Any

from backendkit.core.errors import AppError
from backendkit.errors import Errors
from backendkit.http.limits import (
    FREE,
    AwaitingWorld,
    LimitRule,
    Ruling,
    admit,
    settle,
)
from backendkit.http.messages import App, Message, Receive, Scope, Send, encoded, header
from backendkit.http.visits import COUNTED, AsgiVisit

WORLD = AwaitingWorld()

POLICY_VIOLATION = 1008
"""How a socket is closed that sends too much (RFC 6455 section 7.4.1)."""


class AsgiLimits:
    """Limits the requests of an application.

    Args:
        app: any ASGI application.
        rule: what is limited.
        errors: by which denials are told; None: a registry with the defaults.
        messages: what limits each message that a socket receives; None: nothing does.
    """

    __slots__ = ("app", "errors", "messages", "rule")

    def __init__(
        self,
        app: App,
        rule: LimitRule,
        *,
        errors: Errors | None = None,
        messages: LimitRule | None = None,
    ) -> None:
        self.app = app
        self.rule = rule
        self.errors = errors or Errors()
        self.messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespans pass through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        ruling = await admit(self.rule, AsgiVisit(scope), WORLD)
        if ruling.error is not None:
            await refuse(self.errors, ruling.error, scope, receive, send)
            return
        if scope["type"] == "websocket" and self.messages is not None:
            receive, send = counted(self.messages, scope, receive, send)
        if ruling is FREE or (not ruling.headers and ruling.seat is None):
            await self.app(scope, receive, send)
            return
        response = LimitedResponse(ruling, send)
        try:
            await self.app(scope, receive, response.send)
        finally:
            await response.end()


class LimitedResponse:
    """A response on its way out, which gets the headers and tells its status."""

    __slots__ = ("_headers", "_ruling", "_send", "_status")

    def __init__(self, ruling: Ruling, send: Send) -> None:
        self._ruling = ruling
        self._headers = encoded(ruling.headers)
        self._send = send
        self._status = 500  # what a handler says that never begins to answer

    async def send(self, message: Message) -> None:
        """Pass a message on; the first gets the headers."""
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            self._status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        elif message["type"] == "websocket.accept":
            self._status = 101
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        await self._send(message)

    async def end(self) -> None:
        """Settle what was reserved, also where the client has gone away."""
        if self._ruling.seat is not None:
            await asyncio.shield(settle(self._ruling, self._status, WORLD))


def counted(rule: LimitRule, scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Return a `receive` that limits the messages of a socket, and a `send` that says nothing after one too many."""
    closed = False

    async def open_only(message: Message) -> None:
        if not closed:
            await send(message)

    async def limited() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            ruling = await admit(rule, AsgiVisit({**scope, COUNTED: set()}), WORLD)
            if ruling.error is not None:
                nonlocal closed
                closed = True
                code = {"code": POLICY_VIOLATION, "reason": ruling.error.code}
                await send({"type": "websocket.close", **code})
                return {"type": "websocket.disconnect", **code}
        return message

    return limited, open_only


async def refuse(
    errors: Errors, error: AppError, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer a denial: as an envelope or problem; a socket where the server can, else by closing it."""
    headers: Any = scope["headers"]
    rendered = errors.render(
        error,
        header(headers, b"accept"),
        accept_language=header(headers, b"accept-language"),
    )
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the connect, which must be taken first
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": error.code})
            return
        prefix = "websocket.http.response"
    body = b"" if scope.get("method") == "HEAD" else rendered.body
    await send(
        {"type": f"{prefix}.start", "status": rendered.status, "headers": encoded(rendered.headers)}
    )
    await send({"type": f"{prefix}.body", "body": body})
