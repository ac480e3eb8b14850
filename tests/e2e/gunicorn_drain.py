"""Gunicorn's configuration for the test of the way out."""

from typing import Any

from backendkit.http import drain_on_sigterm
from tests.e2e.served import flask_kit

graceful_timeout = 15


def post_worker_init(worker: Any) -> None:
    """Put the drain in front of the worker's own handler."""
    drain_on_sigterm(flask_kit.health, pause=1.0)
