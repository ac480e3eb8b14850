"""Each layer of the frame by itself, around any ASGI application, for whoever wants one of them and no frame.

They call what the frame calls. Together they cost more than the frame, which does it all in one.
"""

from __future__ import annotations

from collections.abc import Awaitable

from backendkit.core import context
from backendkit.core.clock import Clock, SystemClock
from backendkit.errors import Errors
from backendkit.http.asgi import AsgiFrame
from backendkit.http.deadline import Deadlines
from backendkit.http.exchange import LEFT
from backendkit.http.health import HealthPages
from backendkit.http.layers import AccessWriter, Layers
from backendkit.http.messages import App, Message, Receive, Scope, Send, encoded
from backendkit.http.security import API, SecurityHeaders


class AsgiSecurity:
    """Security headers on every HTTP response.

    Args:
        app: any ASGI application.
        policy: the headers.
    """

    __slots__ = ("app", "policy")

    def __init__(self, app: App, policy: SecurityHeaders = API) -> None:
        self.app = app
        self.policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        https = scope.get("scheme") == "https"

        def secured(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                given = [*message.get("headers", ())]
                names = [name.lower() for name, _ in given]
                given += self.policy.missing_raw(names, message["status"], https=https)
                message = {**message, "headers": given}
            return send(message)

        await self.app(scope, receive, secured)


class AsgiHealth:
    """The two pages for probes.

    Args:
        app: any ASGI application.
        pages: the pages.
    """

    __slots__ = ("app", "pages")

    def __init__(self, app: App, pages: HealthPages) -> None:
        self.app = app
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or not self.pages.has(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        page = await self.pages.answer_async(scope["path"])
        headers = encoded(page.headers)
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})


class AsgiAccess:
    """The access line.

    Args:
        app: any ASGI application.
        access: writes the lines, like `backendkit.logging.AccessLog`.
        clock: None: the machine's.
    """

    __slots__ = ("access", "app", "clock")

    def __init__(self, app: App, access: AccessWriter, *, clock: Clock | None = None) -> None:
        self.app = app
        self.access = access
        self.clock = clock or SystemClock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, size = self.clock.mono_us(), LEFT, 0

        def counted(message: Message) -> Awaitable[None]:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            return send(message)

        request = context.current()
        try:
            await self.app(scope, receive, counted)
        except Exception:
            status = 500 if status == LEFT else status
            raise
        finally:
            spent = self.clock.mono_us() - begun
            self.access.write(request, scope["method"], scope["path"], status, spent, size=size)


def asgi_deadline(app: App, errors: Errors, deadlines: Deadlines | None = None) -> AsgiFrame:
    """Return `app` with time limits, and with the frame without which nobody would tell that they have passed."""
    return AsgiFrame(app, errors, layers=Layers(deadlines=deadlines or Deadlines()))
