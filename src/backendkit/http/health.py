"""Health as probes ask for it: `/healthz` says that the process lives, `/readyz` whether requests should come here.

Plain JSON and no envelope: probes look at the status, people at the rest. What a check raised is not told, for anybody may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as quoted

from backendkit.core.health import Health, Readiness
from backendkit.errors import Rendered

LIVE = "/healthz"
READY = "/readyz"


class HealthPages:
    """The two pages.

    Args:
        health: the application's checks.
        live: path of the one that says that the process lives; None: there is none.
        ready: path of the one that says whether requests should come here; None: there is none.
        beside: other pages that are answered before the application is asked, by path; from a thread.
    """

    __slots__ = ("_beside", "_live", "_ready", "health", "paths")

    def __init__(
        self,
        health: Health,
        *,
        live: str | None = LIVE,
        ready: str | None = READY,
        beside: Mapping[str, Callable[[], Rendered]] | None = None,
    ) -> None:
        self.health = health
        self._live = live
        self._ready = ready
        self._beside = dict(beside or {})
        self.paths = frozenset(path for path in (live, ready, *self._beside) if path)

    def has(self, method: str, path: str) -> bool:
        """Tell whether a request is for one of the pages; other methods than GET and HEAD go to the application."""
        return path in self.paths and method in {"GET", "HEAD"}

    def answer(self, path: str) -> Rendered:
        """Return a page; blocks while checks run."""
        if path == self._live:
            return _alive()
        beside = self._beside.get(path)
        return told(self.health.readiness()) if beside is None else beside()

    async def answer_async(self, path: str) -> Rendered:
        """Return a page; suspends while checks run."""
        if path == self._live:
            return _alive()
        beside = self._beside.get(path)
        if beside is not None:
            return await asyncio.to_thread(beside)  # it may be long
        return told(await self.health.aio.readiness())


def told(readiness: Readiness) -> Rendered:
    """Return the page of `/readyz`: 200 where requests should come, else 503."""
    lines = [
        f'{quoted(found.name)}:{{"status":"{found.result}","durationMs":{found.duration_us / 1000}}}'
        for found in readiness.findings
    ]
    body = f'{{"status":"{readiness.state}","checks":{{{",".join(lines)}}}}}'
    return _page(200 if readiness.state == "ready" else 503, body)


def _alive() -> Rendered:
    return _page(200, '{"status":"ok"}')


def _page(status: int, text: str) -> Rendered:
    body = text.encode()
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    return Rendered(status, headers, body)
