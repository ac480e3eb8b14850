"""The adapter for FastAPI, and for Starlette below it.

    import backendkit.fastapi

    app = FastAPI()
    backendkit.fastapi.install(app, Kit.from_env())

From then on every response carries a request id, and every error is told as one envelope.
"""

from importlib import import_module

from backendkit.core.errors import MissingExtra

try:
    import_module("fastapi")
except ModuleNotFoundError as error:
    raise MissingExtra("backendkit.fastapi", "FastAPI", "fastapi") from error

from backendkit.fastapi.breakers import breakers_router
from backendkit.fastapi.install import install
from backendkit.fastapi.limits import RateLimit, limited
from backendkit.http.cache_asgi import AsgiCache
from backendkit.http.limit_asgi import AsgiLimits
from backendkit.http.openapi import raises

__all__ = [
    "AsgiCache",
    "AsgiLimits",
    "RateLimit",
    "breakers_router",
    "install",
    "limited",
    "raises",
]
