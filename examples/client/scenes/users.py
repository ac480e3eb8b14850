"""Users: register, read, go through all of them page by page."""

import re

from examples.client.front import Request
from examples.client.match import ANY
from examples.client.scene import Exchange, Expect, Race, Section

ADA = {"email": "Ada@Example.org ", "name": "Ada Lovelace"}
GRACE = {"email": "grace@example.org", "name": "Grace Hopper"}
EDSGER = {"email": "edsger@example.org", "name": "Edsger Dijkstra ✍"}

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

SECTION = Section(
    "Users",
    (
        Exchange(
            what="Ada registers; her address is stored in one spelling",
            send=Request(method="POST", path="/users", json=ADA),
            expect=Expect(
                status=201,
                headers={"content-type": "application/json", "location": "/users/1"},
                body={
                    "id": 1,
                    "email": "ada@example.org",
                    "name": "Ada Lovelace",
                    "createdAt": MOMENT,
                },
            ),
            keep={"ada": "id"},
        ),
        Exchange(
            what="Grace registers, under a request id of her own",
            send=Request(
                method="POST", path="/users", json=GRACE, headers={"X-Request-ID": "grace-1"}
            ),
            expect=Expect(status=201, headers={"x-request-id": "grace-1"}, body={"id": 2}),
        ),
        Exchange(
            what="Edsger registers; what is not ASCII comes back as it was",
            send=Request(method="POST", path="/users", json=EDSGER),
            expect=Expect(status=201, body={"id": 3, "name": "Edsger Dijkstra ✍"}),
        ),
        Exchange(
            what="a user is read",
            send=Request(method="GET", path="/users/{ada}"),
            expect=Expect(status=200, body={"id": 1, "email": "ada@example.org", "createdAt": ANY}),
        ),
        Exchange(
            what="the first page says where the next one begins",
            send=Request(method="GET", path="/users?limit=2"),
            expect=Expect(
                status=200,
                body={"items": [{"id": 1}, {"id": 2}], "next": "/users?after=2&limit=2"},
            ),
            keep={"next": "next"},
        ),
        Exchange(
            what="the last page says that there is none",
            send=Request(method="GET", path="{next}"),
            expect=Expect(status=200, body={"items": [{"id": 3}], "next": None}),
        ),
        Exchange(
            what="past the end there is an empty page",
            send=Request(method="GET", path="/users?after=1000"),
            expect=Expect(status=200, body={"items": [], "next": None}),
        ),
        Race(
            what="eight requests claim one address at once: one wins",
            send=Request(
                method="POST", path="/users", json={"email": "race@example.org", "name": "Racer"}
            ),
            times=8,
            expect={201: 1, 409: 7},
        ),
    ),
)
