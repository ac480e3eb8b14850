"""Limits: a burst is cut at the exact request, and let in again when the server said."""

import time
from dataclasses import dataclass, field

from examples.client.front import Answer, Front, Request
from examples.client.match import mismatches
from examples.client.scene import Exchange, Expect, Played, Section

BARBARA = {"email": "barbara@example.org", "name": "Barbara Liskov"}
AS_BARBARA = {"X-User": "barbara"}
ROOM = 3
"""Writes a second that a user has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """More writes at once than a second has room for; then one more as soon as `Retry-After` is over."""

    what: str
    send: Request = field(
        default_factory=lambda: Request(
            method="POST", path="/users", json=BARBARA, headers=AS_BARBARA
        )
    )

    def play(self, front: Front) -> Played:
        """Send until the server refuses, wait as told, and send again."""
        burst = [front.send(self.send) for _ in range(ROOM + 1)]
        denied = burst[-1]
        waits = int(denied.headers.get("retry-after", 0))
        time.sleep(waits)
        again = front.send(self.send)
        faults = list(
            mismatches([201, 409, 409, 429, 409], [a.status for a in (*burst, again)], "statuses")
        )
        faults += mismatches(1, waits, "Retry-After")
        faults += mismatches({"error": {"code": "RATE_LIMITED"}}, denied.data, "body")
        return Played(
            [_settled(answer) for answer in (*burst, again)], faults, [f"waited {waits} s"]
        )


def _settled(answer: Answer) -> Answer:
    """Leave out how long until more is left, which goes with the moment."""
    headers = {name: value for name, value in answer.headers.items() if name != "ratelimit"}
    return Answer(answer.status, headers, answer.body, answer.path)


SECTION = Section(
    "Limits",
    (
        Burst(what="a burst of writes is cut at the fourth, and let in again at Retry-After"),
        Exchange(
            what="meanwhile somebody else may write",
            send=Request(method="POST", path="/users", json=BARBARA, headers={"X-User": "grace"}),
            expect=Expect(
                status=409,
                headers={"ratelimit-policy": '"burst";q=3;w=1, "hourly";q=100;w=3600'},
            ),
        ),
        Exchange(
            what="and Barbara may read",
            send=Request(method="GET", path="/users?limit=1", headers=AS_BARBARA),
            expect=Expect(status=200),
        ),
    ),
)
