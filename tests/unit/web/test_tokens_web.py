"""Guards behind both frameworks, cookies and CSRF: one scenario, two adapters, the same answers."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Response, Security
from flask import Flask

from backendkit.cli.main import main
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.fastapi import install as install_fastapi
from backendkit.fastapi.tokens import Guard as FastApiGuard
from backendkit.flask import install as install_flask
from backendkit.flask.tokens import Guard as FlaskGuard
from backendkit.flask.tokens import (
    optional_principal,
    principal,
    security,
    security_components,
)
from backendkit.http.security import kept_private
from backendkit.http.tokens import (
    CookiePolicy,
    check_csrf,
    check_origin,
    cookie,
    credential,
    csrf_token,
)
from backendkit.http.visits import AsgiVisit
from backendkit.kit import Kit
from backendkit.stores import MemoryStore
from backendkit.testing.asgi import AsgiClient
from backendkit.tokens import (
    CsrfRefused,
    InvalidToken,
    KeyRing,
    NotAuthenticated,
    Principal,
    SecretRing,
    Tokens,
    fresh,
    has_roles,
    has_scopes,
    jws,
)

POLICY = CookiePolicy(origins=["https://app.example"])
Call = Callable[..., tuple[int, dict[str, str], Any]]
"""`call(method, path, headers) -> status, headers, body`."""


def fastapi_call(tokens: Tokens) -> Call:
    """Return a caller of the scenario's routes behind FastAPI."""
    app = FastAPI()
    install_fastapi(app, Kit())

    def answer(user: Principal | None) -> dict[str, Any]:
        return {"id": user.subject if user else None}

    me, maybe = (
        FastApiGuard(tokens, cookies=POLICY),
        FastApiGuard(tokens, cookies=POLICY, optional=True),
    )
    admin = FastApiGuard(tokens, has_roles("admin"))
    assert tokens.store is not None
    scoped, recent = (
        FastApiGuard(tokens, has_scopes("a")),
        FastApiGuard(tokens, fresh(60, clock=tokens.store.clock)),
    )
    for path, guard in (
        ("/me", me),
        ("/maybe", maybe),
        ("/admin", admin),
        ("/scoped", scoped),
        ("/fresh", recent),
    ):

        async def view(user: Annotated[Principal | None, Security(guard)]) -> dict[str, Any]:
            return answer(user)

        app.add_api_route(path, view, methods=["GET", "POST"])

    @app.get("/kept", dependencies=[Security(me)])
    async def kept(response: Response) -> None:
        response.headers["Cache-Control"] = "max-age=60"

    async def send(method: str, path: str, headers: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="https://api.example") as client:
            return await client.request(method, path, headers=list(headers))

    def call(method: str, path: str, headers: Any = ()) -> tuple[int, dict[str, str], Any]:
        got = asyncio.run(send(method, path, headers))
        return got.status_code, {k.lower(): v for k, v in got.headers.items()}, got.json()

    return call


def flask_call(tokens: Tokens) -> Call:
    """Return a caller of the scenario's routes behind Flask."""
    app = Flask(__name__)
    install_flask(app, Kit())
    assert tokens.store is not None
    cookies, bearer = FlaskGuard(tokens, cookies=POLICY), FlaskGuard(tokens)
    rules: Any = {
        "/me": cookies(), "/maybe": cookies(optional=True), "/admin": bearer(has_roles("admin")),
        "/scoped": bearer(has_scopes("a")), "/fresh": bearer(fresh(60, clock=tokens.store.clock)),
    }  # fmt: skip

    def answer() -> dict[str, Any]:
        user = optional_principal()
        return {"id": user and principal().subject}

    for path, guard in rules.items():
        app.add_url_rule(path, path, guard(answer), methods=["GET", "POST"])

    @app.get("/kept")
    @cookies()
    def kept() -> Any:
        return {}, 200, {"Cache-Control": "max-age=60"}

    client = app.test_client(use_cookies=False)

    def call(method: str, path: str, headers: Any = ()) -> tuple[int, dict[str, str], Any]:
        got = client.open(
            path,
            method=method,
            headers=list(headers),
            base_url="https://api.example",
            buffered=True,
        )
        joined = {name.lower(): ", ".join(got.headers.getlist(name)) for name, _ in got.headers}
        return got.status_code, joined, got.get_json()

    return call


class Web:
    """The scenario: tokens on the manual clock, and a caller."""

    def __init__(self, make: Callable[[Tokens], Call]) -> None:
        self.clock = ManualClock()
        self.tokens = Tokens(
            keys=KeyRing.generate("EdDSA"), secret=SecretRing.generate(), issuer="https://id", audience="api",
            store=MemoryStore(clock=self.clock), clock=self.clock,
        )  # fmt: skip
        self.call = make(self.tokens)


@pytest.fixture(params=[fastapi_call, flask_call], ids=["fastapi", "flask"])
def web(request: pytest.FixtureRequest) -> Web:
    """The scenario behind each framework."""
    return Web(request.param)


def bearer(token: str) -> list[tuple[str, str]]:
    """Return the header of a bearer token."""
    return [("Authorization", f"Bearer {token}")]


def test_who_is_logged_in_gets_in(web: Web) -> None:
    """200 with a token, 401 with a challenge without, and the code says which."""
    pair = web.tokens.issue("user-1")
    assert web.call("GET", "/me", bearer(pair.access_token))[::2] == (200, {"id": "user-1"})
    status, headers, body = web.call("GET", "/me")
    assert (status, headers["www-authenticate"], body["error"]["code"]) == (
        401,
        "Bearer",
        "NOT_AUTHENTICATED",
    )
    for bad in (pair.refresh_token, pair.access_token + "=", "x"):
        status, headers, body = web.call("GET", "/me", bearer(bad))
        assert (status, body["error"]["code"]) == (401, "INVALID_TOKEN")
        assert headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert bad not in json.dumps(body) or bad == "x"


def test_optional_means_anonymous_and_not_forged(web: Web) -> None:
    """No credentials pass as nobody; bad ones are refused."""
    assert web.call("GET", "/maybe")[::2] == (200, {"id": None})
    assert web.call("GET", "/maybe", bearer("junk"))[0] == 401
    assert web.call("GET", "/maybe", [("Authorization", "Basic abc")])[0] == 401


def test_rules_answer_403_and_stale_logins_401(web: Web) -> None:
    """RFC 6750 and RFC 9470."""
    plain, admin = web.tokens.issue("u"), web.tokens.issue("u", roles=["admin"], scopes=["a"])
    assert web.call("GET", "/admin", bearer(plain.access_token))[0] == 403
    assert web.call("GET", "/admin", bearer(admin.access_token))[0] == 200
    status, headers, _ = web.call("GET", "/scoped", bearer(plain.access_token))
    assert (status, headers["www-authenticate"]) == (
        403,
        'Bearer error="insufficient_scope", scope="a"',
    )
    assert web.call("GET", "/fresh", bearer(plain.access_token))[0] == 200
    web.clock.advance(61_000_000)
    status, headers, _ = web.call("GET", "/fresh", bearer(plain.access_token))
    assert (status, 'max_age="60"' in headers["www-authenticate"]) == (401, True)


def test_cookies_need_proof_on_unsafe_methods(web: Web) -> None:
    """Origin and signed double submit; a bearer token needs neither."""
    pair = web.tokens.issue("user-1")
    csrf = csrf_token(web.tokens.secret, pair.session_id)
    other = csrf_token(web.tokens.secret, "another session")
    jar = f"{POLICY.access}={pair.access_token}; {POLICY.csrf}={csrf}"
    own = ("Origin", "https://api.example")
    good = [("Cookie", jar), own, ("X-CSRF-Token", csrf)]
    assert web.call("GET", "/me", [("Cookie", jar)])[0] == 200
    assert web.call("POST", "/me", good)[0] == 200
    assert web.call("POST", "/me", [good[0], ("Origin", "https://app.example"), good[2]])[0] == 200
    assert web.call("POST", "/me", bearer(pair.access_token))[0] == 200
    swapped = jar.replace(csrf, other)
    for headers in (
        [good[0], own], [good[0], own, ("X-CSRF-Token", other)], [good[0], ("Origin", "https://evil.example"), good[2]],
        [good[0], ("Origin", "null"), good[2]], [good[0], ("Origin", "http://api.example"), good[2]],
        [good[0], ("Sec-Fetch-Site", "cross-site"), good[2]], [good[0], ("Sec-Fetch-Site", "same-site"), good[2]],
        [("Cookie", swapped), own, ("X-CSRF-Token", other)],
    ):  # fmt: skip
        status, _, body = web.call("POST", "/me", headers)
        assert (status, body["error"]["code"]) == (403, "CSRF_REFUSED"), headers


def test_what_a_cookie_let_somebody_see_no_cache_keeps(web: Web) -> None:
    """Caches know of `Authorization`; of our cookies they would not. What the view says itself is kept to one user."""
    pair = web.tokens.issue("user-1")
    jar = [("Cookie", f"{POLICY.access}={pair.access_token}")]
    assert web.call("GET", "/me", jar)[1]["cache-control"] == "no-store"
    assert web.call("GET", "/maybe", jar)[1]["cache-control"] == "no-store"
    assert web.call("GET", "/kept", jar)[1]["cache-control"] == "max-age=60, private"
    for headers in (bearer(pair.access_token), [*jar, *bearer(pair.access_token)]):
        assert "cache-control" not in web.call("GET", "/me", headers)[1]
    assert "cache-control" not in web.call("GET", "/maybe")[1]


@pytest.mark.parametrize(
    ("said", "lacks"),
    [
        ([], "no-store"), (["max-age=60"], "private"), (["Private, max-age=60"], None), (["no-cache", "NO-STORE"], None),
        (["public, max-age=60"], None),
    ],
)  # fmt: skip
def test_what_a_response_for_one_user_lacks(said: list[str], lacks: str | None) -> None:
    """An application that says `public` means it."""
    assert kept_private(said) == ([] if lacks is None else [("Cache-Control", lacks)])


@pytest.mark.parametrize(
    "origins", ["https://a.example", ["null"], ["*"], ["https://*.example"], ["https://a.example/"], ["https://A.example"]]
)  # fmt: skip
def test_origins_that_no_browser_sends_or_that_any_may_are_refused(origins: Any) -> None:
    """`null` is what every sandboxed frame says it is."""
    with pytest.raises(InvalidArgument, match="origins"):
        CookiePolicy(origins=origins)


def test_a_bad_bearer_token_never_falls_back_to_the_cookie(web: Web) -> None:
    """And two cookies of one name are one too many."""
    pair = web.tokens.issue("user-1")
    jar = f"{POLICY.access}={pair.access_token}"
    assert web.call("GET", "/me", [("Cookie", jar), *bearer("junk")])[0] == 401
    assert web.call("GET", "/me", [("Cookie", f"{jar}; {jar}")])[0] == 401
    assert web.call("GET", "/admin", [("Cookie", jar)])[0] == 401


def test_openapi_shows_a_bearer_scheme() -> None:
    """Documentation pages offer to log in."""
    app = FastAPI()
    tokens = Web(flask_call).tokens

    @app.get("/me")
    async def me(user: Annotated[Principal | None, Security(FastApiGuard(tokens))]) -> None: ...

    document = app.openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["paths"]["/me"]["get"]["security"] == [{"bearer": []}]


def test_cookie_lines_are_as_strict_as_browsers_allow() -> None:
    """`__Host-` wants Secure, Path=/ and no Domain; the refresh cookie goes to its routes only."""
    tokens = Web(flask_call).tokens
    pair = tokens.issue("user-1")
    access, refresh, csrf = POLICY.set(pair, "c")
    assert (
        access
        == f"__Host-access={pair.access_token}; Max-Age=900; Path=/; SameSite=Lax; Secure; HttpOnly"
    )
    assert refresh.startswith(
        f"__Secure-refresh={pair.refresh_token}; Max-Age=604800; Path=/auth; "
    )
    assert refresh.endswith("Secure; HttpOnly")
    assert "HttpOnly" not in csrf
    assert all("Max-Age=0" in line for line in POLICY.clear())
    with pytest.warns(UserWarning, match="development"):
        plain = CookiePolicy(insecure=True)
    assert "Secure" not in "".join(plain.set(pair, "c"))
    for bad in ({"prefix": "auth"}, {"prefix": "/a;b"}, {"same_site": "None"}):
        with pytest.raises(ValueError, match="must be"):
            CookiePolicy(**bad)  # type: ignore[arg-type]


def test_credentials_are_read_strictly() -> None:
    """One header, one scheme, one cookie."""
    assert credential([], [], POLICY) is None
    assert credential([], ["a=b"], None) is None
    assert credential([], ["__Host-access="], POLICY) is None
    assert credential(["bearer  x "], ["__Host-access=y"], POLICY) == ("x", False)
    assert credential([], ['b=1; __Host-access="y"'], POLICY) == ("y", True)
    for headers in (["Bearer"], ["Bearer "], ["Bearer a", "Bearer b"], ["Token x"], [""]):
        with pytest.raises(InvalidToken):
            credential(headers, [], POLICY)
    with pytest.raises(InvalidToken):
        cookie(["a=1", "a=1"], "a")


def test_csrf_tokens_are_bound_to_session_and_secret() -> None:
    """And an older secret of the ring still counts."""
    old, new = (
        SecretRing({"a": bytes(range(32))}),
        SecretRing({"b": bytes(range(1, 33)), "a": bytes(range(32))}),
    )
    token = csrf_token(old, "s")
    check_csrf(new, "s", header=token, in_cookie=token)
    for session, header, value in (
        ("t", token, token), ("s", token, None), ("s", None, token), (None, token, token), ("s", "x", "x"),
        ("s", "\u00e9", "\u00e9"), ("s", token + "x", token + "x"), ("s", "", ""), ("s", "a" * 999, "a" * 999),
    ):  # fmt: skip
        with pytest.raises(CsrfRefused):
            check_csrf(new, session, header=header, in_cookie=value)
    with pytest.raises(CsrfRefused):
        check_csrf(SecretRing.generate(), "s", header=token, in_cookie=token)


def test_an_origin_is_compared_as_text() -> None:
    """Nothing of it is parsed: what no browser sends is refused, and raises nothing else."""

    def visit(*headers: tuple[str, str], scheme: str = "https") -> AsgiVisit:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        return AsgiVisit({"type": "http", "method": "POST", "scheme": scheme, "headers": raw})

    host, own = ("host", "a.example:8443"), ("origin", "https://a.example:8443")
    for headers in ([], [host], [host, own], [("sec-fetch-site", "none")], [own, host]):
        check_origin(visit(*headers), POLICY)
    check_origin(visit(host, own, scheme="wss"), POLICY)
    for headers in (
        [host, ("origin", "https://[")], [host, ("origin", "")], [host, ("origin", "null")], [own],
        [host, ("origin", "https://a.example:8443@evil")], [host, ("origin", "https://A.example:8443")],
        [host, own, own], [host, host, own], [host, ("sec-fetch-site", "same-site")], [("origin", "https://\xff")],
    ):  # fmt: skip
        with pytest.raises(CsrfRefused):
            check_origin(visit(*headers), POLICY)
    with pytest.raises(CsrfRefused):
        check_origin(visit(host, own, scheme="http"), POLICY)


def run(*args: str, stdin: str = "") -> int:
    """Run a command."""
    sys.stdin, before = io.StringIO(stdin), sys.stdin
    try:
        return main(list(args))
    finally:
        sys.stdin = before


def test_keys_are_generated_rotated_listed_and_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file that only its owner reads; nothing private is printed."""
    file = tmp_path / "keys.json"
    assert run("keys", "generate", str(file), "--alg", "ES256") == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("keys", "generate", str(file)) == 2
    assert run("keys", "rotate", str(file), "--alg", "ES256", "--ahead", "60") == 0
    assert run("keys", "list", str(file)) == 0
    capsys.readouterr()
    assert run("keys", "jwks", str(file)) == 0
    published = json.loads(capsys.readouterr().out)["keys"]
    private = json.loads(file.read_text())["keys"]
    assert len(published) == len(private) == 2
    assert all("d" in key for key in private)
    for args in (("list", str(file)), ("rotate", str(file)), ("jwks", str(file))):
        run("keys", *args)
    said = "".join(capsys.readouterr())
    assert not any(key["d"] in said for key in private)
    assert run("keys", "list", str(tmp_path / "none")) == 2
    assert run("keys", "generate", str(tmp_path / "x"), "--alg", "none") == 2
    assert run("keys", "rotate", str(file), "--ahead", "-1") == 2


def test_a_token_is_inspected_without_its_signature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From standard input; good, refused or not checked."""
    file = tmp_path / "keys.json"
    run("keys", "generate", str(file))
    token = jws.sign(b'{"sub":"a"}', KeyRing.from_file(file).keys[0])
    capsys.readouterr()
    for keys, said in (((), "not checked"), (("--keys", str(file)), "good")):
        assert run("tokens", "inspect", *keys, stdin=token) == 0
        shown = capsys.readouterr().out
        assert json.loads(shown)["signature"] == said
        assert token.split(".")[2] not in shown
    assert run("tokens", "inspect", "--keys", str(file), stdin=token[:-4] + "AAAA") == 0
    assert "refused" in capsys.readouterr().out
    assert run("tokens", "inspect", stdin="junk") == 2
    assert run("tokens", "inspect", "--keys", str(tmp_path / "none"), stdin=token) == 2


def test_calibration_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """With a report."""
    assert (
        run("passwords", "calibrate", "--target-ms", "2", "--memory-mib", "2", "--concurrency", "1")
        == 0
    )
    assert "logins/s" in capsys.readouterr().out
    assert run("passwords", "calibrate", "--target-ms", "0") == 2


def test_scopes_are_asked_for_and_documented() -> None:
    """FastAPI's own form: what the document shows is what the guard enforces."""
    tokens = Web(flask_call).tokens
    app = FastAPI()
    install_fastapi(app, Kit())
    guard = FastApiGuard(tokens)
    maybe = FastApiGuard(tokens, optional=True)

    @app.get("/posts")
    async def posts(user: Annotated[Principal, Security(guard, scopes=["posts:read"])]) -> str:
        return user.subject

    @app.get("/maybe")
    async def either(user: Annotated[Principal | None, Security(maybe, scopes=["a"])]) -> bool:
        return user is not None

    document = app.openapi()
    assert document["paths"]["/posts"]["get"]["security"] == [{"bearer": ["posts:read"]}]
    client = AsgiClient(app).sync
    allowed = tokens.issue("u", scopes=["posts:read", "x"]).access_token
    refused = tokens.issue("u", scopes=["posts:write"]).access_token
    assert client.get("/posts", headers={"Authorization": f"Bearer {allowed}"}).json() == "u"
    got = client.get("/posts", headers={"Authorization": f"Bearer {refused}"})
    challenge = 'Bearer error="insufficient_scope", scope="posts:read"'
    assert got.status == 403
    assert ("www-authenticate", challenge) in [(k.lower(), v) for k, v in got.headers]
    assert client.get("/maybe").json() is False
    assert client.get("/maybe", headers={"Authorization": f"Bearer {refused}"}).status == 403


def test_flask_has_the_parts_of_a_document() -> None:
    """The same scheme that FastAPI's guard shows."""
    app = FastAPI()
    guard = FastApiGuard(Web(flask_call).tokens)
    app.add_api_route("/x", lambda: None, dependencies=[Security(guard)])
    schemes = app.openapi()["components"]["securitySchemes"]
    assert security_components()["securitySchemes"] == schemes
    assert security(has_scopes("a", "b")) == [{"bearer": ["a", "b"]}]
    assert security(optional=True) == [{}, {"bearer": []}]


def test_flask_guards_async_views() -> None:
    """As those that are not."""
    tokens = Web(flask_call).tokens
    app = Flask(__name__)
    install_flask(app, Kit())

    @app.get("/x")
    @FlaskGuard(tokens)()
    async def view() -> dict[str, str]:
        return {"id": principal().subject}

    with app.test_request_context("/x"), pytest.raises(NotAuthenticated):
        principal()
    client, token = app.test_client(), tokens.issue("u").access_token
    got = client.get("/x", headers={"Authorization": f"Bearer {token}"})
    assert (got.status_code, got.get_json()) == (200, {"id": "u"})
    assert client.get("/x").status_code == 401


def test_the_log_names_the_user(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """Of a request that was let in, and of one that a rule refused; of nobody else."""
    caplog.set_level(logging.INFO, "backendkit")
    web.call("GET", "/me", bearer(web.tokens.issue("user-1").access_token))
    assert "user_id='user-1'" in caplog.text
    caplog.clear()
    web.call("GET", "/admin", bearer(web.tokens.issue("user-2").access_token))
    assert "user_id='user-2'" in caplog.text
    caplog.clear()
    web.call("GET", "/me", bearer("junk"))
    assert "user_id" not in caplog.text
