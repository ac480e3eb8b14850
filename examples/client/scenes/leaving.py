"""Leaving: a server that is asked to end says first that it is not ready, and finishes what it has begun."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from signal import SIGTERM

from examples.client.front import Answer, Front, Request
from examples.client.match import mismatches
from examples.client.scene import Exchange, Expect, Played, Section
from examples.client.server import Server
from examples.client.servers import running

PAUSE_S = 0.8
"""Seconds between a request to end and the server's end of accepting: what a balancer needs to notice."""

WITHIN_S = 10.0
EDITH = {"email": "edith@example.com", "name": "Edith"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A server of this scene's own gets SIGTERM while a slow request runs.

    Meanwhile `/readyz` says `draining`, and requests that come all the same are answered; the slow one is finished; the
    process ends by itself.
    """

    what: str
    send: Request = field(default_factory=lambda: Request(method="GET", path="/readyz"))

    def play(self, front: Front) -> Played:
        """Start a server, have it leave, and ask it all the while."""
        if front.server is None:  # there is no process to end: it is ready, and that is all
            answer = front.send(self.send)
            return Played([answer], list(mismatches(200, answer.status, "status")))
        settings = {"BACKENDKIT_HTTP__DRAIN": str(PAUSE_S)}
        with running([front.server.plan], settings) as (own,), ThreadPoolExecutor(1) as thread:
            registered = own.send(Request(method="POST", path="/users", json=EDITH))
            ready = own.send(self.send)
            slow = thread.submit(own.send, Request(method="GET", path="/users/1/score"))
            time.sleep(0.2)  # so that it has begun
            return self._leave(own, [ready, registered], slow)

    def _leave(self, own: Front, before: list[Answer], slow: "Future[Answer]") -> Played:
        server = own.server
        assert server is not None
        began = time.monotonic()
        server.process.terminate()
        draining = _until_unready(own, self.send)
        during = own.send(Request(method="GET", path="/users/1"))
        finished = slow.result(WITHIN_S)
        answers = [*before, draining, during, finished]
        faults = list(
            mismatches([200, 201, 503, 200, 200], [a.status for a in answers], "statuses")
        )
        faults += mismatches({"status": "draining"}, draining.data, "/readyz")
        faults += mismatches({"score": 7}, finished.data, "the slow request")
        faults += _ended(server)
        return Played(answers, faults, [f"gone after {time.monotonic() - began:.1f} s"])


def _until_unready(own: Front, probe: Request) -> Answer:
    """Ask until the answer is no longer a success: the signal takes a moment to arrive."""
    give_up = time.monotonic() + PAUSE_S
    while (answer := own.send(probe)).status == 200 and time.monotonic() < give_up:
        time.sleep(0.02)
    return answer


def _ended(server: Server) -> list[str]:
    status = server.process.wait(WITHIN_S)
    # uvicorn, once all is done, dies of the signal that it was sent; gunicorn exits.
    return list(mismatches(0, 0 if status == -SIGTERM else status, "exit status"))


SECTION = Section(
    "Leaving",
    (
        Exchange(
            what="the process lives",
            send=Request(method="GET", path="/healthz"),
            expect=Expect(status=200, body={"status": "ok"}),
        ),
        Exchange(
            what="it is ready: its database answers",
            send=Request(method="GET", path="/readyz"),
            expect=Expect(
                status=200, body={"status": "ready", "checks": {"database": {"status": "ok"}}}
            ),
        ),
        Leave(what="asked to end, it is no longer ready, and finishes what it has begun"),
    ),
)
