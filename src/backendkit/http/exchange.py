"""One HTTP response on its way out of an ASGI application, as a frame sees it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

from backendkit.core import context
from backendkit.core.clock import Clock
from backendkit.errors import Rendered, from_status
from backendkit.errors.foreign import phrases
from backendkit.http.messages import (
    Message,
    RawHeaders,
    Receive,
    Scope,
    Send,
    accepted,
    encoded,
    local_path,
)
from backendkit.http.security import RawPairs, kept_private

if TYPE_CHECKING:
    from backendkit.http.asgi import AsgiFrame

LEFT = 499
"""The status, nginx's, of a request whose client left before there was an answer."""


SLOW_US = 100_000
"""Microseconds after which it is asked whether the client of an answer is still there: few give up sooner."""


class NoResponse(RuntimeError):
    """The application has returned, and has answered nothing. Servers would say so in plain text, without an id."""

    def __init__(self) -> None:
        super().__init__("the application returned without a response")


class Exchange:
    """One response.

    Attributes:
        path: the request's, below the prefix under which the application is served.
        started: whether a response has begun, so that there can be no other.
        status: what was sent, 0 before that.
        left: whether the client was seen to leave before that.
        size: bytes of the body so far, where there is a clock.
        nested: whether another frame is around this one, which names the request and adds headers.
        replaced: whether an envelope went out in place of a framework's phrase.
        done_us: when the last byte went out; None before.
        clock: measures that, where somebody wants to know.
        begun_us: when the request came, where there is a clock.
    """

    # Defaults of the class instead of slots: most responses never change them, and setting each takes its time.
    started = False
    status = 0
    left = False
    size = 0
    nested = False
    replaced = False
    done_us: int | None = None
    clock: Clock | None = None
    begun_us = 0
    _held: Message | None = None
    _kept: Sequence[Message] = ()
    _asking = False
    _read = False

    def __init__(
        self,
        frame: AsgiFrame,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: context.Request,
    ) -> None:
        # Not the scope itself: frameworks put into it what holds `send`, and the circle would wait for the collector.
        self._headers: RawHeaders = scope["headers"]
        self._place: tuple[str, str] = scope["method"], scope.get("scheme", "")
        self.path: str = local_path(scope) if scope.get("root_path") else scope["path"]
        self._frame = frame
        self._receive = receive
        self._send = send
        self._request = request

    def render(self, exc: BaseException) -> Rendered:
        """Return what tells `exc` to this request's client."""
        accept, language = accepted(self._headers)
        return self._frame.errors.render(exc, accept, self._request.id, accept_language=language)

    async def receive(self) -> Message:
        """Pass a message in, and notice a client that leaves before its answer."""
        if self._kept:
            message, *self._kept = self._kept
            return message
        self._asking = True
        try:
            message = await self._receive()
        finally:
            self._asking = False
        self._read = self._read or not message.get("more_body")
        if message["type"] == "http.disconnect" and not self.started:
            self.left = True
        return message

    def _look(self) -> None:
        """Notice that the client of a slow answer has left before it, which servers tell only those who ask.

        What they say instead is kept for the application. Asked is only the server itself, whose methods can be left
        waiting, never what others have put around it; and not while the application waits for it.
        """
        unread = not self._read and self._place[0] not in {"GET", "HEAD"}
        if unread or self._asking or not _is_servers(self._receive):
            return
        while not self.left and len(self._kept) < 2:
            message = _at_once(self._receive)
            if message is None:
                return
            self._kept = [*self._kept, message]
            self.left = message["type"] == "http.disconnect"

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; a start gets its headers, a bare standard phrase becomes an envelope.

        Not `async`: each message of each response comes through here, and another coroutine would be a tenth of our cost.
        """
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if message["status"] >= 400 and _may_be_phrase(headers):
                self._held = message
                return asyncio.sleep(0)
            return self._start(message, headers)
        if self._held is not None:
            return self._release(self._held, message)
        if self.clock is not None:
            self.size += len(message.get("body") or b"")
            if not message.get("more_body"):
                self.done_us = self.clock.mono_us()
        return self._send(message)

    async def answer(self, rendered: Rendered) -> None:
        """Send a whole response; without its body where the request was a HEAD."""
        self._held = None
        headers = encoded(rendered.headers)
        start = {"type": "http.response.start", "status": rendered.status, "headers": headers}
        await self._start(start, headers)
        body = b"" if self._place[0] == "HEAD" else rendered.body
        await self.send({"type": "http.response.body", "body": body})

    @property
    def outcome(self) -> int:
        """The status for the access line: 499 where the client left before there was an answer."""
        return LEFT if self.left else self.status or LEFT

    async def _release(self, start: Message, message: Message) -> None:
        """Answer in place of a framework that only had a phrase to say, else let the held start go."""
        self._held = None
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and body.decode("latin-1") in phrases(start["status"]):
            kept = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
            self.replaced = start["status"] < 500
            await self.answer(self.render(from_status(start["status"], headers=kept)))
            return
        await self._start(start, start.get("headers", ()))
        await self.send(message)

    def _start(self, start: Message, given: RawHeaders) -> Awaitable[None]:
        self.status = status = start["status"]
        self.started = True
        if self.nested:
            return self._send(start)
        if self.clock is not None and self.clock.mono_us() - self.begun_us > SLOW_US:
            self._look()
        layers, request = self._frame.layers, self._request
        key, policy = layers.ids.key, layers.security
        if request.outgoing is not None or self.path in layers.overrides:
            policy = layers.policy(request, self.path)
        ours: RawPairs = []
        names: Collection[bytes] = ()
        if policy is not None:
            ours, names = policy.raw(status, https=self._place[1] == "https"), policy.raw_names
        headers = [*given]
        # Only what the application gave is looked at: ours are known to differ, and there are more of them.
        for name, _ in headers:
            lower = name.lower()
            if lower == key or lower in names:
                headers, ours = _settled(headers, ours, key)
                break
        headers.append((key, request.id.encode()))
        headers += ours
        if request.personal or request.aftermath is not None:
            headers += self._more(headers, status)
        return self._send({**start, "headers": headers})

    def _more(self, headers: RawHeaders, status: int) -> RawPairs:
        """Return what guards and limits add to a response that has these headers."""
        more: RawPairs = []
        if self._request.personal:
            said = [v.decode("latin-1") for k, v in headers if k.lower() == b"cache-control"]
            more += encoded(kept_private(said))
        if self._request.aftermath is not None:
            more += self._request.aftermath.added(status)
        return more


def _is_servers(receive: Receive) -> bool:
    return inspect.ismethod(receive) and inspect.iscoroutinefunction(receive)


def _at_once(receive: Receive) -> Message | None:
    """Return what `receive` has to say without waiting, or None."""
    asked = cast("Coroutine[Any, Any, Message]", receive())
    try:
        asked.send(None)
    except StopIteration as told:
        message: Message = told.value
        return message
    finally:
        asked.close()
    return None


def _settled(given: RawPairs, ours: RawPairs, key: bytes) -> tuple[RawPairs, RawPairs]:
    """Return the application's headers without an id, and of ours those that it has not set itself."""
    own = [pair for pair in given if pair[0].lower() != key]
    names = {name.lower() for name, _ in own}
    return own, [pair for pair in ours if pair[0] not in names]


def _may_be_phrase(headers: RawHeaders) -> bool:
    """Whether a response is short plain text, as frameworks send when nobody told them what to say."""
    short = plain = False
    for name, value in headers:
        if name == b"content-type":
            if not value.startswith(b"text/plain"):
                return False  # most are JSON
            plain = True
        elif name == b"content-length":
            short = len(value) <= 2 and value != b"0"
    return plain and short
