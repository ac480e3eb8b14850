"""One connection of an ASGI application, from the server's side: the application in a task, messages both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from backendkit.http.messages import App, Message, Scope


class Talk:
    """Runs `app` on `scope` while the block lasts.

    Args:
        app: the application.
        scope: its connection.
        first: what the application is told first.
        timeout: seconds that any wait may take.
    """

    __slots__ = ("_app", "_deaf", "_from_app", "_scope", "_task", "_timeout", "_to_app")

    def __init__(self, app: App, scope: Scope, first: Sequence[Message], timeout: float) -> None:
        self._app = app
        self._scope = scope
        self._timeout = timeout
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message | None] = asyncio.Queue()
        self._deaf = False
        for message in first:
            self.tell(message)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            return
        async with asyncio.timeout(self._timeout):
            await self._task

    def tell(self, message: Message) -> None:
        """Have the application receive a message."""
        self._to_app.put_nowait(message)

    def deafen(self) -> None:
        """Drop what the application sends from now on."""
        self._deaf = True
        self._from_app.put_nowait(None)

    async def hear(self) -> Message | None:
        """Return the next message of the application; None: it has ended, or nobody listens any more.

        Raises:
            Exception: what ended the application.
            TimeoutError: nothing came in time.
        """
        async with asyncio.timeout(self._timeout):
            message = await self._from_app.get()
        if message is None:
            self._from_app.put_nowait(None)  # for whoever asks again
            if not self._deaf:
                await self._task
        return message

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._send)
        finally:
            self._from_app.put_nowait(None)

    async def _send(self, message: Message) -> None:
        if not self._deaf:
            self._from_app.put_nowait(message)
