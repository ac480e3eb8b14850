"""Errors in the document that FastAPI makes of an application."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

from backendkit.http.openapi import ErrorSchemas, describe
from backendkit.kit import Kit


def document_errors(app: Starlette, kit: Kit) -> None:
    """Have `app.openapi()` tell errors as they are answered; `install` calls this.

    Nothing is computed before the document is asked for, and then once: the document that the application made, and
    caches, is completed in place. An application that sets an `openapi` of its own afterwards keeps it, and may
    complete what it returns by `backendkit.http.openapi.describe`. A Starlette application has no document.
    """
    build: Any = getattr(app, "openapi", None)
    if build is None:
        return
    described: list[Any] = [None]

    def openapi() -> dict[str, Any]:
        document: dict[str, Any] = build()
        if document is not described[0]:
            describe(document, ErrorSchemas(kit.errors, header=kit.settings.http.request_id_header))
            described[0] = document
        return document

    app.openapi = openapi  # type: ignore[attr-defined]  # this one application's, as FastAPI's documentation does
