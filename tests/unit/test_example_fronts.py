"""The example's two fronts, in process: every scene of the demo, and what scenes would be tedious for."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from backendkit.kit import Kit
from backendkit.settings import CacheSettings, Settings
from examples.accounts.composition import Services
from examples.accounts.fronts import fastapi_app, flask_app
from examples.accounts.settings import Settings as ServiceSettings
from examples.accounts.storage.migrate import migrate
from examples.client.front import Front, Request
from examples.client.in_process import asgi_front, wsgi_front
from examples.client.keys import settings as token_settings
from examples.client.match import difference
from examples.client.payments_service import PROVIDER, payments_service
from examples.client.plans_service import plans_service
from examples.client.play import perform
from examples.client.scene import Section
from examples.client.scenes import SECTIONS
from examples.client.scores_service import scores_service
from examples.client.transcript import Transcript


@pytest.fixture
def fronts(tmp_path: Path) -> Iterator[list[Front]]:
    """Both fronts, each with a database of its own."""
    with (
        scores_service() as scores,
        payments_service() as payments,
        plans_service() as one,
        plans_service() as two,
    ):
        cached = CacheSettings(ttl=2, max_stale=60)
        given = Settings(**token_settings(), cache=cached)
        on_fastapi, on_flask = (
            services(tmp_path / name, scores, payments, given, plans)
            for name, plans in (("fastapi", one), ("flask", two))
        )
        both = [
            asgi_front("fastapi", fastapi_app.create_app(on_fastapi)),
            wsgi_front("flask", flask_app.create_app(on_flask)),
        ]
        for front, plans in zip(both, (one, two), strict=True):
            database = f"sqlite:///{tmp_path / front.name}"
            front.kept.update(
                mails=str(tmp_path / f"{front.name}.mails"), database=database, plans=plans
            )
            front.kept[PROVIDER] = payments
        yield both
        for parts in (on_fastapi, on_flask):
            parts.close()
            parts.kit.close()


def services(file: Path, scores: str, payments: str, given: Settings, plans: str) -> Services:
    """The service on a new database in `file`."""
    settings = ServiceSettings(
        database_url=f"sqlite:///{file}",
        scores_url=scores,
        payments_url=payments,
        mail_folder=f"{file}.mails",
        plans_url=plans,
    )
    migrate(settings.database_url)
    return Services.build(settings, Kit(given))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_both_fronts_answer_the_scenes_with_the_same_bytes(
    fronts: list[Front], section: Section
) -> None:
    """As the demo shows behind real servers; each section can be played alone."""
    out = io.StringIO()

    assert perform([section], fronts, Transcript(out)) == 0, out.getvalue()


@pytest.mark.parametrize(
    "request_",
    [
        Request(method="POST", path="/users", body=b"\xff\xfe"),
        Request(method="POST", path="/users", body=b"NaN"),
        Request(method="POST", path="/users", body=b"null"),
        Request(method="POST", path="/users", body=b""),
        Request(method="POST", path="/users", body=b'{"email": "\\ud800@a.org", "name": "x"}'),
        Request(method="POST", path="/users", body=b'{"email": "a@a.org", "name": "\\u0000"}'),
        Request(method="POST", path="/users", body=b"{}", headers={"Content-Type": "text/plain"}),
        Request(method="POST", path="/users", json={"email": 1, "name": None}),
        Request(method="POST", path="/users", json={"email": "a@a.org" * 1_000, "name": "x" * 999}),
        Request(method="POST", path="/users", json={"email": "mail", "name": "\n"}),
        Request(method="GET", path="/users/0"),
        Request(method="GET", path="/users/-1"),
        Request(method="GET", path="/users/1.0"),
        Request(method="GET", path="/users/9223372036854775808"),
        Request(method="GET", path="/users/" + "9" * 5_000),
        Request(method="GET", path="/users/%F0%9F%92%A9"),
        Request(method="GET", path="/users/"),
        Request(method="GET", path="/users?limit="),
        Request(method="GET", path="/users?limit=1&limit=x"),
        Request(method="GET", path="/users?page=1"),
        Request(method="GET", path="/users?after=%00"),
        Request(method="DELETE", path="/users/1"),
        Request(method="HEAD", path="/no/such/page"),
        Request(method="GET", path="/no/such/page", headers={"Accept": "application/problem+json"}),
        Request(method="GET", path="/no/such/page", headers={"X-Request-ID": "not sound!"}),
    ],
    ids=lambda request_: (
        f"{request_.method} {request_.path[:20]} {(request_.content or b'')[:20]!r}"
    ),
)
def test_both_fronts_refuse_alike(fronts: list[Front], request_: Request) -> None:
    """Whatever clients send: a 4xx, the same from both."""
    one, other = fronts

    answers = [one.send(request_)], [other.send(request_)]

    assert 400 <= answers[0][0].status < 500
    assert difference(one.name, answers[0], other.name, answers[1]) == []


@pytest.mark.parametrize("body", [b"[" * 100_000, b"9" * 10_000], ids=["deep", "long"])
def test_a_body_that_would_break_a_parser_is_refused(fronts: list[Front], body: bytes) -> None:
    """As a body that is not JSON; on which words, the frameworks do not agree."""
    for front in fronts:
        answer = front.send(Request(method="POST", path="/users", body=body))
        assert answer.status == 400
        assert b"MALFORMED_BODY" in answer.body


def test_nothing_of_a_refused_body_comes_back(fronts: list[Front]) -> None:
    """Neither a value nor the name of a field that nobody asked for, if it is no plain name."""
    body = {"email": "s3cret-address", "name": ["s3cret-name"], "s3cret key": "s3cret-value"}

    for front in fronts:
        answer = front.send(Request(method="POST", path="/users", json=body))
        assert answer.status == 422
        assert b"s3cret" not in answer.body


def test_the_openapi_document_names_the_shapes(fronts: list[Front]) -> None:
    """The handlers send bytes of their own, and still document what is in them."""
    document = fronts[0].client.get("/openapi.json").json()

    created = document["paths"]["/users"]["post"]["responses"]["201"]
    assert created["content"]["application/json"]["schema"]["$ref"].endswith("/UserView")
    assert set(document["components"]["schemas"]["UserView"]["properties"]) == {
        "id",
        "email",
        "name",
        "createdAt",
    }


def test_the_openapi_document_names_the_errors(fronts: list[Front]) -> None:
    """Valid, each of its errors in our shapes, each route's own codes among them."""
    document = fronts[0].client.get("/openapi.json").json()

    validate(document)
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    register = document["paths"]["/users"]["post"]["responses"]
    assert set(register) == {"201", "400", "409", "415", "422", "default"}
    assert '"enum": ["EMAIL_TAKEN"]' in json.dumps(register["409"])
