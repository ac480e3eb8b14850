"""Fronts in this very process, without servers and ports: what tests play scenes against."""

import asyncio
from typing import Any

import httpx

from examples.client.front import Front

BASE_URL = "http://in-process"


def asgi_front(name: str, app: Any) -> Front:
    """Return a front that calls an ASGI application; its lifespan is not run."""
    return Front(name, httpx.Client(transport=_AsgiTransport(app), base_url=BASE_URL))


def wsgi_front(name: str, app: Any) -> Front:
    """Return a front that calls a WSGI application."""

    def conforming(environ: dict[str, Any], start_response: Any) -> Any:
        # PEP 3333 wants bytes in the guise of Latin-1 here; httpx gives text.
        path = environ["PATH_INFO"].encode().decode("latin-1")
        return app({**environ, "PATH_INFO": path}, start_response)

    return Front(name, httpx.Client(transport=httpx.WSGITransport(conforming), base_url=BASE_URL))


class _AsgiTransport(httpx.BaseTransport):
    """httpx's own calls ASGI from asynchronous code only. A loop for each request: slow, and alone with it."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return asyncio.run(self._handle(request))

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)
