"""What a guard adds to a route: the same application with and without it, in turn."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from fastapi import FastAPI, Security
from flask import Flask
from werkzeug.test import EnvironBuilder

import backendkit.fastapi
import backendkit.flask
from backendkit.fastapi.tokens import Guard as FastApiGuard
from backendkit.flask.tokens import Guard as FlaskGuard
from backendkit.kit import Kit
from backendkit.stores import MemoryStore
from backendkit.tokens import KeyRing, Principal, SecretRing, Tokens
from tests.benchmarks.report import Row

REQUESTS, ROUNDS = 300, 15
BOUND_US = 60

Batch = Callable[[], None]
"""Sends `REQUESTS` requests."""


def rows() -> list[Row]:
    """Measure guards behind both frameworks, with a key that is checked each time and with one that is remembered."""
    logging.disable(logging.INFO)  # the access lines of thousands of requests
    try:
        return [
            _row(f"{name} route, {alg}{remembered}", make, alg)
            for name, make in (("FastAPI", _fastapi), ("Flask", _flask))
            for alg, remembered in (("HS256", ""), ("EdDSA", ", remembered"))
        ]
    finally:
        logging.disable(logging.NOTSET)


def _row(what: str, make: Callable[[Tokens, str, bool], Batch], alg: str) -> Row:
    tokens = Tokens(
        keys=KeyRing.generate(alg), secret=SecretRing.generate(), issuer="i", audience="a", store=MemoryStore(),
    )  # fmt: skip
    token = tokens.issue("user-1", roles=["editor"], scopes=["read"]).access_token
    bare, guarded = make(tokens, token, False), make(tokens, token, True)
    for batch in (bare, guarded):
        _cost(batch)
    added = median(_cost(guarded) - _cost(bare) for _ in range(ROUNDS))
    return Row(
        f"a guard on a {what}", f"{added:.0f} us", "bound", f"{BOUND_US} us", added / BOUND_US, 1.0
    )


def _cost(batch: Batch) -> float:
    begun = time.thread_time_ns()
    batch()
    return (time.thread_time_ns() - begun) / REQUESTS / 1000


def _fastapi(tokens: Tokens, token: str, guarded: bool) -> Batch:
    app = FastAPI()
    backendkit.fastapi.install(app, Kit())
    guard = FastApiGuard(tokens)

    async def open_to_all() -> dict[str, int]:
        return {"a": 1}

    async def for_users(_user: Principal = Security(guard)) -> dict[str, int]:  # noqa: B008 - FastAPI's own form
        return {"a": 1}

    app.add_api_route("/x", for_users if guarded else open_to_all)
    headers = [(b"host", b"a"), (b"accept", b"*/*"), (b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "http", "method": "GET", "path": "/x", "raw_path": b"/x", "query_string": b"", "headers": headers,
        "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "server": ("a", 80), "root_path": "",
    }  # fmt: skip
    loop = asyncio.new_event_loop()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    seen: set[int] = set()

    async def send(message: Any) -> None:
        seen.add(message.get("status", 200))

    async def all_of_them() -> None:
        for _ in range(REQUESTS):
            await app(dict(scope), receive, send)
        assert seen == {200}

    return lambda: loop.run_until_complete(all_of_them())


def _flask(tokens: Tokens, token: str, guarded: bool) -> Batch:
    app = Flask("guarded")
    backendkit.flask.install(app, Kit())

    def view() -> dict[str, int]:
        return {"a": 1}

    app.add_url_rule("/x", "x", FlaskGuard(tokens)()(view) if guarded else view)
    environ = EnvironBuilder("/x").get_environ() | {"HTTP_AUTHORIZATION": f"Bearer {token}"}

    def start(status: str, _headers: Any, _exc_info: Any = None) -> Any:
        assert status.startswith("200")

    def batch() -> None:
        for _ in range(REQUESTS):
            body: Any = app(dict(environ), start)
            list(body)
            body.close()

    return batch
