"""Failures: another service that fails, a bug of our own, and what clients and operators are told of each."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from examples.client.front import Answer, Front, Request
from examples.client.match import ANY, mismatches
from examples.client.scene import Exchange, Expect, Played, Section
from examples.client.scenes.refusals import refused

WRITTEN_WITHIN_S = 5.0
PROBLEM = {"Accept": "application/problem+json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request, its answer, and the one record about it in the server's log.

    Attributes:
        record: what the record holds.
        unsaid: what must not be in the answer.
    """

    what: str
    send: Request
    expect: Expect
    record: Mapping[str, object]
    unsaid: bytes

    def play(self, front: Front) -> Played:
        """Send the request, look at the answer, and find the record by the answer's request id."""
        answer = front.send(self.send)
        faults = list(self.expect.faults(answer))
        if self.unsaid in answer.body:
            faults.append(f"body: {self.unsaid!r} is for logs, not for clients")
        if front.server is None:  # in this process there is no log of its own
            return Played([answer], faults)
        records = _errors_of(front, answer)
        if len(records) != 1:
            faults.append(f"log: expected one record of an error, got {len(records)}")
        for record in records:
            faults += mismatches(self.record, record, "record")
        return Played([answer], faults, [_shown(record) for record in records])


def _errors_of(front: Front, answer: Answer) -> list[dict[str, Any]]:
    """Return the error records of one request, which a server writes a moment after its answer."""
    give_up = time.monotonic() + WRITTEN_WITHIN_S
    while True:
        records = list(_records_of(front, answer.request_id))
        if records or time.monotonic() > give_up:
            return records
        time.sleep(0.02)


def _records_of(front: Front, request_id: str) -> Iterator[dict[str, Any]]:
    records = front.server.records() if front.server else []
    for record in records:
        if record.get("request_id") == request_id and "exception" in record:
            yield record


def _shown(record: Mapping[str, Any]) -> str:
    error = record["exception"]
    last = error["stacktrace"].splitlines()[-2].strip()
    return (
        f"its record, {record['request_id']}: {record['level']}: {record['event']}, "
        f"{error['type']} at `{last}`"
    )


def _registers(name: str) -> Exchange:
    return Exchange(
        what=f"{name} registers",
        send=Request(
            method="POST", path="/users", json={"email": f"{name}@example.com", "name": name}
        ),
        expect=Expect(status=201, body={"email": f"{name.lower()}@example.com"}),
        keep={name: "id"},
    )


SECTION = Section(
    "Failures",
    (
        Exchange(
            what="there is no user 4711: nobody else is asked for a score",
            send=Request(method="GET", path="/users/4711/score"),
            expect=refused(404, "USER_NOT_FOUND"),
        ),
        _registers("Anita"),
        Exchange(
            what="her score, from another service",
            send=Request(method="GET", path="/users/{Anita}/score"),
            expect=Expect(status=200, body={"score": 7}),
        ),
        _registers("Barbara"),
        _registers("Cynthia"),
        _registers("Donald"),
        Exchange(
            what="the other service answers with a proxy's page: a 502 of ours, and nothing of the page",
            send=Request(method="GET", path="/users/{Barbara}/score"),
            expect=refused(502, "UPSTREAM_ERROR"),
        ),
        Exchange(
            what="it says by name what is wrong: its code goes through",
            send=Request(method="GET", path="/users/{Cynthia}/score"),
            expect=refused(404, "SCORE_UNKNOWN"),
        ),
        Exchange(
            what="the same as a problem (RFC 9457), for a client that prefers one",
            send=Request(method="GET", path="/users/{Barbara}/score", headers=PROBLEM),
            expect=Expect(
                status=502,
                headers={"content-type": "application/problem+json", "vary": "Accept"},
                body={"type": "urn:error:UPSTREAM_ERROR", "status": 502, "instance": ANY},
            ),
        ),
        Recorded(
            what="it answers what nobody expected: a bug of ours, told to clients as no more than that",
            send=Request(method="GET", path="/users/{Donald}/score"),
            expect=refused(500, "INTERNAL_ERROR"),
            record={
                "level": "error",
                "event": "unhandled error",
                "exception": {"type": "KeyError", "stacktrace": ANY},
            },
            unsaid=b"score",
        ),
    ),
)
