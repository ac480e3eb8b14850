"""Errors for the OpenAPI document of a Flask application, which Flask itself does not make."""

from __future__ import annotations

from typing import Any, cast

from flask import Flask

from backendkit.core.errors import AppError, InvalidArgument
from backendkit.http.openapi import ErrorSchemas
from backendkit.kit import Kit


def components(app: Flask) -> dict[str, Any]:
    """Return `components` for the document of `app`: schemas, headers, and a response for each status.

    Merge it into whatever makes the document (apispec, flask-smorest, a file), and refer to
    `#/components/responses/Error`, or to `#/components/responses/Status404` and so on.

    Raises:
        InvalidArgument: no kit is installed in `app`.
    """
    return _schemas(app).components()


def responses(app: Flask, *kinds: type[AppError]) -> dict[str, Any]:
    """Return an operation's `responses` for these errors, and `default` for all others.

    Raises:
        InvalidArgument: no kit is installed in `app`.
    """
    return _schemas(app).responses(*kinds)


def _schemas(app: Flask) -> ErrorSchemas:
    kit = cast("Kit | None", app.extensions.get("backendkit"))
    if kit is None:
        raise InvalidArgument("app", "must have a kit installed", app)
    return ErrorSchemas(kit.errors, header=kit.settings.http.request_id_header)
