"""What gunicorn is told: `gunicorn --config python:examples.accounts.fronts.gunicorn_conf ...`."""

from typing import Any

from backendkit.http import drain_on_sigterm

# It would be put into the user's home, and left there.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Have SIGTERM take this worker's readiness down first; gunicorn has set its own handlers by now."""
    kit = worker.wsgi.extensions["backendkit"]
    drain_on_sigterm(kit.health, pause=kit.settings.http.drain)
