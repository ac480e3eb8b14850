"""A websocket from the client's side, in process."""

from __future__ import annotations

import json
from typing import Any

from backendkit.http.messages import Message
from backendkit.testing.answers import Answer, BrokenProtocol
from backendkit.testing.talk import Talk

LONGEST_REASON = 123
"""Bytes of a close reason, at most (RFC 6455 section 5.5)."""


class SocketClosed(Exception):
    """The application has closed the socket. Carries `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason!r}")
        self.code = code
        self.reason = reason


class AsgiSocket:
    """One websocket; `AsgiClient.websocket` makes it.

    Attributes:
        accepted: whether the application took it.
        subprotocol: which of those offered the application chose.
        denial: the response that came in place of the socket; None: there was none.
        closed: how the application closed it; None: it has not.
    """

    __slots__ = ("_talk", "accepted", "closed", "denial", "subprotocol")

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.accepted = False
        self.subprotocol: str | None = None
        self.denial: Answer | None = None
        self.closed: SocketClosed | None = None

    async def open(self) -> None:
        """Wait for what the application makes of the request."""
        while not (self.accepted or self.closed) and (message := await self._talk.hear()):
            kind = message["type"]
            if kind == "websocket.accept":
                self.accepted = True
                self.subprotocol = message.get("subprotocol")
            elif kind == "websocket.close":
                self.closed = _closed(message)
            elif self._denied(message):
                return

    async def send(self, data: str | bytes) -> None:
        """Send a text, or bytes."""
        key = "text" if isinstance(data, str) else "bytes"
        self._talk.tell({"type": "websocket.receive", key: data})

    async def send_json(self, value: object) -> None:
        """Send a value as JSON text."""
        await self.send(json.dumps(value))

    async def receive(self) -> str | bytes:
        """Return the next message of the application.

        Raises:
            SocketClosed: it has closed the socket, or has ended (1006).
        """
        if self.closed is not None:
            raise self.closed
        message = await self._talk.hear()
        if message is not None and message["type"] == "websocket.send":
            data: str | bytes | None = message.get("text")
            return message["bytes"] if data is None else data
        if message is not None and message["type"] != "websocket.close":
            raise BrokenProtocol(f"{message['type']} on an open socket")
        self.closed = SocketClosed(1006, "") if message is None else _closed(message)
        raise self.closed

    async def receive_json(self) -> Any:
        """Return the next message as JSON has it."""
        return json.loads(await self.receive())

    def _denied(self, message: Message) -> bool:
        """Take a part of a response; return whether it is complete."""
        answer = self.denial = self.denial or Answer()
        if message["type"] == "websocket.http.response.start":
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]]
            answer.begin(message["status"], headers)
        elif message["type"] == "websocket.http.response.body":
            answer.take(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise BrokenProtocol(f"{message['type']} before the socket was accepted")
        return answer.complete


def _closed(message: Message) -> SocketClosed:
    reason = message.get("reason") or ""
    if len(reason.encode()) > LONGEST_REASON:
        raise BrokenProtocol(f"a close reason of {len(reason.encode())} bytes")
    return SocketClosed(message.get("code", 1000), reason)
