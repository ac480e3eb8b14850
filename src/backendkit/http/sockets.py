"""Websockets as a frame sees them: an error before they are open denies them, one after that closes them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Literal

from backendkit.core import context
from backendkit.errors import Rendered
from backendkit.http.messages import Message, Scope, Send, encoded

if TYPE_CHECKING:
    from backendkit.http.asgi import AsgiFrame

LONGEST_REASON = 123
"""Bytes that a close frame has for its reason (RFC 6455 section 5.5.1)."""

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Socket:
    """One websocket.

    Attributes:
        state: what has been said to the client.
        status: what stands for it in the access line: 101 if it was opened, else what it was denied with.
    """

    __slots__ = ("_denial", "_frame", "_https", "_path", "_request", "_send", "state", "status")

    def __init__(
        self, frame: AsgiFrame, scope: Scope, send: Send, request: context.Request
    ) -> None:
        self._frame = frame
        self._send = send
        self._request = request
        self._path: str = scope["path"]
        self._https = scope.get("scheme") == "wss"
        self._denial = "websocket.http.response" in scope.get("extensions", {})
        self.state: Literal["new", "open", "over"] = "new"
        self.status = 0

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, with what a denial has in its headers, and a reason that fits into its frame."""
        kind = message["type"]
        if kind == "websocket.accept":
            self.state, self.status = "open", 101
            if self._request.aftermath is not None:
                headers = [*message.get("headers", ())]
                for more in self._request.aftermath.on_start:
                    headers += more(101)
                message = {**message, "headers": headers}
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.state = "over"
            message = {**message, "reason": reason(message.get("reason"))}
        elif kind == "websocket.http.response.start":
            self.state, self.status = "over", message["status"]
            message = {**message, "headers": self._completed(message)}
        return self._send(message)

    async def refuse(self, rendered: Rendered, code: str) -> None:
        """Deny a socket that is not open yet as a request is denied; close one that is, with the error's code."""
        if self.state == "new" and self._denial:
            start = {
                "type": "websocket.http.response.start",
                "status": rendered.status,
                "headers": encoded(rendered.headers),
            }
            await self.send(start)
            await self._send({"type": "websocket.http.response.body", "body": rendered.body})
        elif self.state != "over":
            number = INTERNAL_ERROR if rendered.status >= 500 else POLICY_VIOLATION
            await self.send({"type": "websocket.close", "code": number, "reason": code})

    def _completed(self, start: Message) -> list[tuple[bytes, bytes]]:
        layers = self._frame.layers
        key = layers.ids.key
        given = [pair for pair in start.get("headers", ()) if pair[0].lower() != key]
        policy = layers.policy(self._request, self._path)
        if policy is not None:
            present = [name.lower() for name, _ in given]
            given += policy.missing_raw(present, start["status"], https=self._https)
        return [*given, (key, self._request.id.encode())]


def reason(given: object) -> str:
    """Return a close frame's reason: a text of at most 123 bytes; what is no text has nothing to say there."""
    if not isinstance(given, str):
        return ""
    raw = given.encode("utf-8", "replace")
    return given if len(raw) <= LONGEST_REASON else raw[:LONGEST_REASON].decode("utf-8", "ignore")
