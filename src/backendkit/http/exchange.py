"""One HTTP response on its way out of an ASGI application, as a frame sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from backendkit.core import context
from backendkit.errors import Rendered, from_status
from backendkit.errors.foreign import phrases
from backendkit.http.messages import Message, RawHeaders, Receive, Scope, Send, encoded, header

if TYPE_CHECKING:
    from backendkit.http.asgi import AsgiFrame

LEFT = 499
"""The status, nginx's, of a request whose client left before there was an answer."""


class Exchange:
    """One response.

    Attributes:
        started: whether a response has begun, so that there can be no other.
        status: what was sent, 0 before that.
        left: whether the client was seen to leave before that.
        size: bytes of the body so far.
        nested: whether another frame is around this one, which names the request and adds headers.
        replaced: whether an envelope went out in place of a framework's phrase.
        done_us: when the last byte went out; None before.
    """

    __slots__ = (
        "_frame",
        "_head",
        "_headers",
        "_held",
        "_https",
        "_path",
        "_receive",
        "_request",
        "_send",
        "done_us",
        "left",
        "nested",
        "replaced",
        "size",
        "started",
        "status",
    )

    def __init__(
        self,
        frame: AsgiFrame,
        scope: Scope,
        channel: tuple[Receive, Send],
        request: context.Request,
        *,
        nested: bool,
    ) -> None:
        # Not the scope itself: frameworks put into it what holds `send`, and the circle would wait for the collector.
        self._headers: RawHeaders = scope["headers"]
        self._head = scope["method"] == "HEAD"
        self._https = scope.get("scheme") == "https"
        self._path: str = scope["path"]
        self._frame = frame
        self._receive, self._send = channel
        self._request = request
        self._held: Message | None = None
        self.nested = nested
        self.replaced = False
        self.started = False
        self.left = False
        self.status = 0
        self.size = 0
        self.done_us: int | None = None

    def render(self, exc: BaseException) -> Rendered:
        """Return what tells `exc` to this request's client."""
        return self._frame.errors.render(
            exc,
            header(self._headers, b"accept"),
            self._request.id,
            accept_language=header(self._headers, b"accept-language"),
        )

    async def receive(self) -> Message:
        """Pass a message in, and notice a client that leaves before its answer."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.started:
            self.left = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; a start gets its headers, a bare standard phrase becomes an envelope.

        Not `async`: each message of each response comes through here, and another coroutine would be a tenth of our cost.
        """
        if message["type"] == "http.response.start":
            return self._begin(message)
        if self._held is not None:
            return self._release(self._held, message)
        if "body" in message:
            self.size += len(message["body"])
        if self.done_us is None and not message.get("more_body"):
            self.done_us = self._frame.layers.clock.mono_us()
        return self._send(message)

    async def answer(self, rendered: Rendered) -> None:
        """Send a whole response; without its body where the request was a HEAD."""
        self._held = None
        start = {
            "type": "http.response.start",
            "status": rendered.status,
            "headers": encoded(rendered.headers),
        }
        await self._start(start)
        body = b"" if self._head else rendered.body
        await self.send({"type": "http.response.body", "body": body})

    @property
    def outcome(self) -> int:
        """The status for the access line: 499 where the client left before there was an answer."""
        return LEFT if self.left else self.status or LEFT

    def _begin(self, message: Message) -> Awaitable[None]:
        if message["status"] >= 400 and _may_be_phrase(message.get("headers", ())):
            self._held = message
            return asyncio.sleep(0)
        return self._start(message)

    async def _release(self, start: Message, message: Message) -> None:
        """Answer in place of a framework that only had a phrase to say, else let the held start go."""
        self._held = None
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and body.decode("latin-1") in phrases(start["status"]):
            kept = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
            self.replaced = start["status"] < 500
            await self.answer(self.render(from_status(start["status"], headers=kept)))
            return
        await self._start(start)
        await self.send(message)

    def _start(self, start: Message) -> Awaitable[None]:
        status: int = start["status"]
        self.status = status
        self.started = True
        if self.nested:
            return self._send(start)
        layers = self._frame.layers
        given, key = start.get("headers", ()), layers.ids.key
        present = [name.lower() for name, _ in given]
        if key in present:  # the application has set one of its own
            given = [pair for pair in given if pair[0].lower() != key]
        mark = (key, self._request.id.encode())
        policy = layers.policy(self._request, self._path)
        ours = () if policy is None else policy.missing_raw(present, status, https=self._https)
        return self._send({**start, "headers": [*given, *ours, mark]})


def _may_be_phrase(headers: RawHeaders) -> bool:
    """Whether a response is short plain text, as frameworks send when nobody told them what to say."""
    short = plain = False
    for name, value in headers:
        if name == b"content-type":
            plain = value.startswith(b"text/plain")
        elif name == b"content-length":
            short = len(value) <= 2 and value != b"0"
    return plain and short
