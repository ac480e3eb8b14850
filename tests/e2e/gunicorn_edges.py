"""Gunicorn's configuration for the applications of `edges`."""

from typing import Any

graceful_timeout = 15


def post_worker_init(worker: Any) -> None:
    """Put the drain in front of the worker's own handler."""
    from backendkit.http import drain_on_sigterm
    from tests.e2e.edges import flask_kit

    drain_on_sigterm(flask_kit.health, pause=flask_kit.settings.http.drain)
