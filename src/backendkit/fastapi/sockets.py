"""Websockets for those who are logged in, closed when their token expires.

@app.websocket("/feed")
async def feed(socket: WebSocket, user: Annotated[Principal, Depends(SocketGuard(tokens))]):
    await socket.send_text(f"hello {user.subject}")         # the guard has accepted it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.context import bind
from backendkit.core.errors import AppError
from backendkit.http.tokens import CookiePolicy, Gate
from backendkit.http.visits import AsgiVisit
from backendkit.tokens import Principal, Rule, Tokens, require

UNAUTHORIZED = 4401
"""How a socket is closed whose token is bad or has expired: a private code (RFC 6455 section 7.4.2), named for 401."""

FORBIDDEN = 4403
"""How one is closed that a rule refuses."""

UNAVAILABLE = 1013
"""How one is closed whose token cannot be checked now: try again later (IANA's registry)."""

SUBPROTOCOL = "bearer"
"""What a page offers that has no other place for a token: `new WebSocket(url, ["bearer", token])`."""


class SocketGuard:
    """A dependency that accepts a websocket, gives its `Principal`, and closes it with 4401 when the token expires.

    The token comes, whichever is there, as subprotocol after `bearer`, in `Authorization`, in the cookie of our own
    pages, or as the first message. One that is bad is never made up for by another. Before a socket is accepted,
    refusals are responses, as for requests; after it, close codes.

    Args:
        tokens: verify.
        *rules: all must allow.
        cookies: None: no cookies.
        first_message: for how long a socket without any token may take to send it as its first text, up to 60 s;
            None: it is refused.

    A session that is revoked meanwhile keeps its sockets until the token expires.
    """

    def __init__(
        self,
        tokens: Tokens,
        *rules: Rule,
        cookies: CookiePolicy | None = None,
        first_message: Duration | None = None,
    ) -> None:
        self._tokens = tokens
        self._rules = rules
        self._gate = Gate(tokens, cookies=cookies)
        self._patience_us = (
            None
            if first_message is None
            else checks.duration_us("first_message", first_message, most_us=60 * SECOND_US)
        )

    async def __call__(self, websocket: WebSocket) -> AsyncGenerator[Principal]:
        """Admit a socket, and watch over it until its handler has ended."""
        principal = await self._admit(websocket)
        expired = asyncio.Event()
        closing = asyncio.create_task(self._close_in_time(websocket, principal, expired))
        try:
            yield principal
        except RuntimeError as error:
            if not expired.is_set():
                raise
            raise WebSocketDisconnect(
                UNAUTHORIZED
            ) from error  # sent after the end: nobody's mistake
        finally:
            closing.cancel()

    async def _admit(self, websocket: WebSocket) -> Principal:
        visit = AsgiVisit(websocket.scope)
        offered = [
            word.strip()
            for line in visit.lines("sec-websocket-protocol")
            for word in line.split(",")
        ]
        if SUBPROTOCOL in offered[:1]:
            principal = await self._vouch(offered[1] if len(offered) > 1 else "")
            await websocket.accept(subprotocol=SUBPROTOCOL)
            return principal
        waits = self._patience_us is not None
        known = await self._gate.admit_async(visit, optional=waits)
        if known is not None:
            principal = require(known, *self._rules)
            await websocket.accept()
            return principal
        await websocket.accept()
        return await self._first(websocket)

    async def _first(self, websocket: WebSocket) -> Principal:
        """Return whose token the first message is."""
        try:
            async with asyncio.timeout((self._patience_us or 0) / SECOND_US):
                token = await websocket.receive_text()
            return await self._vouch(token)
        except TimeoutError:
            raise WebSocketException(UNAUTHORIZED, "NOT_AUTHENTICATED") from None
        except KeyError:  # bytes, which are no text
            raise WebSocketException(UNAUTHORIZED, "INVALID_TOKEN") from None
        except AppError as error:
            code = {401: UNAUTHORIZED, 403: FORBIDDEN}.get(error.status, UNAVAILABLE)
            raise WebSocketException(code, error.code) from error

    async def _vouch(self, token: str) -> Principal:
        principal = await self._tokens.aio.verify(token)
        bind(user_id=principal.subject)
        return require(principal, *self._rules)

    async def _close_in_time(
        self, websocket: WebSocket, principal: Principal, expired: asyncio.Event
    ) -> None:
        """Close the socket when its token expires; a handler that waits for a message hears that it has closed."""
        clock = self._tokens.clock
        await clock.sleep_async(int(principal.expires_at * SECOND_US) - clock.wall_us())
        expired.set()
        try:
            await websocket.close(UNAUTHORIZED, "TOKEN_EXPIRED")
        except (RuntimeError, OSError):  # it has closed by itself at this very moment
            return
