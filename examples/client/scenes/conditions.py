"""Conditions: what a client has already is not sent again."""

from dataclasses import dataclass

from examples.client.front import Front, Request
from examples.client.match import mismatches
from examples.client.scene import Exchange, Expect, Played, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The same request twice, the second time with the tag of the first answer."""

    what: str
    send: Request

    def play(self, front: Front) -> Played:
        """Ask, and ask again."""
        first = front.send(self.send)
        tag = first.headers.get("etag", "")
        again = front.send(
            Request(method="GET", path=self.send.path, headers={"If-None-Match": f'"x", W/{tag}'})
        )
        faults = list(mismatches([200, 304], [first.status, again.status], "statuses"))
        faults += mismatches(43 + 2, len(tag), "length of the tag")
        faults += mismatches(tag, again.headers.get("etag"), "etag")
        if again.body:
            faults.append("body: a 304 has none")
        return Played([first, again], faults)


SECTION = Section(
    "Conditions",
    (
        Exchange(
            what="Jean registers",
            send=Request(
                method="POST", path="/users", json={"email": "jean@example.org", "name": "Jean"}
            ),
            expect=Expect(status=201),
            keep={"jean": "id"},
        ),
        Again(
            what="asked with the tag of what it has, the service sends headers only",
            send=Request(method="GET", path="/users/{jean}"),
        ),
        Exchange(
            what="asked with another tag, all of it",
            send=Request(method="GET", path="/users/{jean}", headers={"If-None-Match": '"old"'}),
            expect=Expect(status=200, body={"name": "Jean"}),
        ),
    ),
)
