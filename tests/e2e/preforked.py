"""An application that hashes before its server forks: gunicorn serves `app` with `--preload`."""

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from backendkit.passwords import PasswordHasher, Profile
from backendkit.stores import connect
from backendkit.tokens import KeyRing, SecretRing, Tokens

PASSWORD = "correct horse battery staple"

hasher = PasswordHasher(
    Profile(memory_kib=1024, iterations=1), failure_time=0.01, queue_timeout=30, workers=2
)
stored = asyncio.run(hasher.aio.hash(PASSWORD))  # the parent has threads by now
store = connect(os.environ.get("TESTED_STORE", "memory://"), timeout=10, connect_timeout=10)
tokens = Tokens(
    keys=KeyRing.generate("ES256"),
    secret=SecretRing.generate(),
    issuer="https://id.example",
    audience="api",
    store=store,
)
tokens.issue("parent")  # and a connection


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Log in with the query as password, and refresh once."""
    right = asyncio.run(hasher.aio.verify(stored, unquote(environ["QUERY_STRING"]))).ok
    refreshed = None
    if right:
        pair = tokens.refresh(tokens.issue("user-1").refresh_token)
        refreshed = tokens.verify(pair.access_token).subject
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = {"pid": os.getpid(), "ok": right, "subject": refreshed}
    return [json.dumps(answer).encode()]
