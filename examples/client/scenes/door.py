"""The door: failures alone are counted, and the sixth is not even looked at."""

from dataclasses import dataclass, field

from examples.client.front import Answer, Front, Request
from examples.client.match import mismatches
from examples.client.scene import Exchange, Expect, Played, Section

PASSWORD = "correct horse battery staple"  # noqa: S105 - the demo's own
ROOM = 5
"""Failures a minute that a name has."""


def login(name: str, password: str) -> Request:
    """An attempt."""
    return Request(method="POST", path="/logins", json={"name": name, "password": password})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """The same attempt, again and again.

    Attributes:
        expect: the statuses, in order.
    """

    what: str
    send: Request
    expect: list[int] = field(default_factory=list)

    def play(self, front: Front) -> Played:
        """Send it as often as there are statuses."""
        answers = [front.send(self.send) for _ in self.expect]
        faults = list(mismatches(self.expect, [answer.status for answer in answers], "statuses"))
        return Played([_settled(answer) for answer in answers], faults)


def _settled(answer: Answer) -> Answer:
    """Leave out how long to wait, which goes with the moment."""
    headers = {name: value for name, value in answer.headers.items() if name != "retry-after"}
    return Answer(answer.status, headers, answer.body, answer.path)


SECTION = Section(
    "Door",
    (
        Attempts(
            what="the right password counts nothing, however often",
            send=login("operator", PASSWORD),
            expect=[200] * (ROOM + 1),
        ),
        Attempts(
            what="five wrong ones are told so, the sixth is not looked at",
            send=login("operator", "letmein"),
            expect=[401] * ROOM + [429],
        ),
        Attempts(
            what="nor is the right one, now",
            send=login("operator", PASSWORD),
            expect=[429],
        ),
        Exchange(
            what="somebody who does not exist is told the same as everybody",
            send=login("nobody", "letmein"),
            expect=Expect(status=401, body={"error": {"code": "WRONG_PASSWORD"}}),
        ),
    ),
)
