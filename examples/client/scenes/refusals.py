"""Refusals: whatever is wrong with a request, the answer has one shape."""

from collections.abc import Mapping

from examples.client.front import Request
from examples.client.match import ANY
from examples.client.scene import Exchange, Expect, Section

ALAN = {"email": "alan@example.org", "name": "Alan Turing"}


def refused(status: int, code: str, *details: Mapping[str, object], **headers: object) -> Expect:
    """Expect an envelope with this code and exactly these details."""
    error = {"code": code, "message": ANY, "details": list(details), "requestId": ANY}
    return Expect(
        status=status,
        body={"error": error},
        headers={"content-type": "application/json", **headers},
    )


SECTION = Section(
    "Refusals",
    (
        Exchange(
            what="Alan registers",
            send=Request(method="POST", path="/users", json=ALAN),
            expect=Expect(status=201, body={"email": ALAN["email"]}),
        ),
        Exchange(
            what="his address cannot be registered again, in whatever spelling",
            send=Request(method="POST", path="/users", json=ALAN | {"email": "ALAN@Example.org"}),
            expect=refused(409, "EMAIL_TAKEN"),
        ),
        Exchange(
            what="there is no such user",
            send=Request(method="GET", path="/users/4711"),
            expect=refused(404, "USER_NOT_FOUND"),
        ),
        Exchange(
            what="there is no such page",
            send=Request(method="GET", path="/no/such/page"),
            expect=refused(404, "NOT_FOUND"),
        ),
        Exchange(
            what="users cannot be replaced all at once",
            send=Request(method="PUT", path="/users", json={}),
            expect=refused(405, "METHOD_NOT_ALLOWED", allow=ANY),
        ),
        Exchange(
            what="several fields are wrong: all are named, no value comes back",
            send=Request(method="POST", path="/users", json={"email": "not an address", "age": 7}),
            expect=refused(
                422,
                "VALIDATION_ERROR",
                {"field": "email", "issue": "Must be a valid e-mail address", "in": "body"},
                {"field": "name", "in": "body"},
                {"field": "age", "in": "body"},
            ),
        ),
        Exchange(
            what="a body that is no object",
            send=Request(method="POST", path="/users", json=["ada@example.org"]),
            expect=refused(422, "VALIDATION_ERROR", {"issue": ANY}),
        ),
        Exchange(
            what="no body at all",
            send=Request(method="POST", path="/users"),
            expect=refused(422, "VALIDATION_ERROR", {"issue": ANY}),
        ),
        Exchange(
            what="a body that is not JSON",
            send=Request(method="POST", path="/users", body=b'{"email": "ada@'),
            expect=refused(400, "MALFORMED_BODY", {"code": "INVALID_JSON", "in": "body"}),
        ),
        Exchange(
            what="a query out of its bounds",
            send=Request(method="GET", path="/users?limit=1000&after=x"),
            expect=refused(
                422,
                "VALIDATION_ERROR",
                {"field": "after", "in": "query"},
                {"field": "limit", "in": "query"},
            ),
        ),
        Exchange(
            what="an id that is no number",
            send=Request(method="GET", path="/users/ada"),
            expect=refused(422, "VALIDATION_ERROR", {"field": "user_id", "in": "path"}),
        ),
    ),
)
