"""The fronts behind real servers, each on a free port of the loopback and with a database of its own."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import httpx

from examples.accounts.storage.migrate import migrate
from examples.client.front import Front
from examples.client.keys import variables
from examples.client.payments_service import PROVIDER, payments_service
from examples.client.plans_service import plans_service
from examples.client.scores_service import scores_service
from examples.client.server import Plan, Server

ANSWERED_WITHIN_S = 10.0
CACHED = {"BACKENDKIT_CACHE__TTL": "2", "BACKENDKIT_CACHE__MAX_STALE": "60"}
"""Entries get old soon enough to be watched, and serve for a minute more while their source is down."""

MAILS = "mails"
"""The folder, in a server's room, that its mails are written to."""

PLANS = (
    Plan(
        "fastapi",
        "uvicorn",
        (
            *("-m", "uvicorn", "--factory", "examples.accounts.fronts.fastapi_app:create_app"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
    ),
    Plan(
        "flask",
        "gunicorn, 8 threads",
        (
            *("-m", "gunicorn", "examples.accounts.fronts.flask_app:create_app()"),
            *("--threads", "8", "--bind", "127.0.0.1:{port}"),
            *("--config", "python:examples.accounts.fronts.gunicorn_conf"),
        ),
    ),
)


@contextmanager
def running(
    plans: Sequence[Plan] = PLANS, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[list[Front]]:
    """Start a front for each plan and wait until all answer; end all of them, and leave no file, whatever happens.

    Args:
        plans: what to start.
        settings: variables that set the service up, beside those that follow from where it runs.
    """
    with ExitStack() as stack:
        payments = stack.enter_context(payments_service())
        scores = stack.enter_context(scores_service())
        given = {
            "ACCOUNTS_SCORES_URL": scores,
            "ACCOUNTS_PAYMENTS_URL": payments,
            **variables(),
            **CACHED,
            **settings,
        }
        house = Path(stack.enter_context(TemporaryDirectory(prefix="accounts-")))
        servers, sources = [], []
        for plan, port in zip(plans, _free_ports(len(plans)), strict=True):
            sources.append(stack.enter_context(plans_service()))
            own = {"ACCOUNTS_PLANS_URL": sources[-1], **given}
            servers.append(_start(plan, port, house / plan.name, own))
            stack.callback(servers[-1].stop)
        fronts = []
        for server, source in zip(servers, sources, strict=True):
            client = stack.enter_context(_client(server.url))
            server.wait_until_ready(client)
            room = house / server.plan.name
            kept = {
                "mails": str(room / MAILS),
                "database": _database(room),
                "plans": source,
                PROVIDER: payments,
            }
            fronts.append(Front(server.plan.name, client, server, kept))
        yield fronts


def _start(plan: Plan, port: int, room: Path, settings: Mapping[str, str]) -> Server:
    room.mkdir()
    database = _database(room)
    migrate(database)
    own = {"ACCOUNTS_DATABASE_URL": database, "ACCOUNTS_MAIL_FOLDER": str(room / MAILS)}
    return Server.start(plan, port, room, {**own, **settings})


def _database(room: Path) -> str:
    return f"sqlite:///{room / 'accounts.sqlite3'}"


def _client(url: str) -> httpx.Client:
    # No proxy that the shell names: everything here stays on this machine.
    return httpx.Client(base_url=url, trust_env=False, timeout=ANSWERED_WITHIN_S)


def _free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on. Whoever takes one before its server does makes that fail."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
