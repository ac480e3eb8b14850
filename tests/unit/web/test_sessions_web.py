"""Login, refresh, logout, sessions and public keys behind both frameworks, with clients that keep cookies as browsers do."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask

from backendkit.core.clock import ManualClock
from backendkit.fastapi import install as install_fastapi
from backendkit.fastapi.limits import RateLimit
from backendkit.fastapi.sessions import jwks_router, session_router
from backendkit.flask import install as install_flask
from backendkit.flask.limits import limited
from backendkit.flask.sessions import jwks_blueprint, session_blueprint
from backendkit.http.client import ClientAddress
from backendkit.http.jwks import JwksPage
from backendkit.http.login import Identity, Login, LoginBody, RefreshBody, SecondFactorRequired
from backendkit.http.sessions import Answer, Call, SessionFlows
from backendkit.http.tokens import CookiePolicy, Credential, csrf_token
from backendkit.kit import Kit
from backendkit.ratelimit import Limit
from backendkit.stores import MemoryStore
from backendkit.testing import FaultyStore
from backendkit.testing.faults import UNAVAILABLE
from backendkit.tokens import Key, KeyRing, SecretRing, TokenPolicy, Tokens

BASE = "https://api.example"
OWN = {"Origin": BASE}
PROXIED = ClientAddress(hops=1)
LOGIN = {"username": "ada", "password": "hunter2!", "device": "laptop"}
COOKIES = CookiePolicy(origins=["https://app.example"])


def known(login: Login) -> Identity | None:
    """Know Ada, who has a second factor on her phone, and nobody else."""
    if (login.username, login.password) != ("ada", "hunter2!"):
        return None
    if login.more.get("strict") and login.code != "123456":
        raise SecondFactorRequired
    return Identity(subject="user-ada", roles=["editor"])


async def known_async(login: Login) -> Identity | None:
    """Know the same."""
    await asyncio.sleep(0)
    return known(login)


class KnownAsync:
    """The same as an object."""

    async def __call__(self, login: Login) -> Identity | None:
        """Know the same."""
        return known(login)


class Scene:
    """Tokens on the manual clock behind one framework, with a client."""

    def __init__(self, make: Callable[..., httpx.Client], cookies: CookiePolicy | None) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.tokens = Tokens(
            keys=KeyRing.generate("EdDSA"), secret=SecretRing.generate(), issuer="https://id", audience="api",
            store=self.store, clock=self.clock, policy=TokenPolicy(check="session"),
        )  # fmt: skip
        self.cookies = cookies
        self.client = make(self.tokens, cookies)

    def login(self, **more: Any) -> httpx.Response:
        """Log in as Ada."""
        return self.client.post("/auth/login", json={**LOGIN, **more}, headers=OWN)

    def csrf(self) -> dict[str, str]:
        """Return what a page of ours adds to a request."""
        return {**OWN, "X-CSRF-Token": self.client.cookies.get(COOKIES.csrf) or ""}


class _Loop(httpx.BaseTransport):
    """httpx's ASGI transport for callers that block; one loop for all requests."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.ASGITransport(app)
        self._loop = asyncio.new_event_loop()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def handle() -> httpx.Response:
            got = await self._inner.handle_async_request(request)
            return httpx.Response(got.status_code, headers=got.headers, content=await got.aread())

        return self._loop.run_until_complete(handle())

    def close(self) -> None:
        # httpx leaves a body that was not read to its end for the loop to close.
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def on_fastapi(authenticate: Any) -> Callable[..., httpx.Client]:
    """Return a maker of a client of the routes behind FastAPI."""

    def make(tokens: Tokens, cookies: CookiePolicy | None) -> httpx.Client:
        app = FastAPI()
        install_fastapi(app, Kit())
        app.include_router(session_router(tokens, authenticate, cookies=cookies, address=PROXIED))
        app.include_router(jwks_router(tokens.keys))
        return httpx.Client(transport=_Loop(app), base_url=BASE)

    return make


def on_flask(tokens: Tokens, cookies: CookiePolicy | None) -> httpx.Client:
    """Return a client of the routes behind Flask."""
    app = Flask(__name__)
    install_flask(app, Kit())
    app.register_blueprint(session_blueprint(tokens, known, cookies=cookies, address=PROXIED))
    app.register_blueprint(jwks_blueprint(tokens.keys))
    return httpx.Client(transport=httpx.WSGITransport(app), base_url=BASE)


MAKERS = {
    "fastapi": on_fastapi(known_async),
    "object": on_fastapi(KnownAsync()),
    "threads": on_fastapi(known),
    "flask": on_flask,
}


@pytest.fixture(params=MAKERS)
def body(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Tokens in bodies, behind each framework."""
    scene = Scene(MAKERS[request.param], None)
    yield scene
    scene.client.close()


@pytest.fixture(params=MAKERS)
def jar(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Tokens in cookies, behind each framework."""
    scene = Scene(MAKERS[request.param], COOKIES)
    yield scene
    scene.client.close()


def bearer(pair: Any) -> dict[str, str]:
    """Return the header of a pair."""
    return {"Authorization": f"Bearer {pair['access_token']}"}


def code(got: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error."""
    return got.status_code, got.json()["error"]["code"]


def test_a_life_of_a_session_in_bodies(body: Scene) -> None:
    """Login, refresh, list, logout; no answer may be kept by anybody."""
    got = body.login()
    first = got.json()
    assert got.status_code == 200
    assert got.headers["cache-control"] == "no-store"
    assert set(first) == {"access_token", "refresh_token", "token_type", "expires_in", "refresh_expires_in", "session_id"}  # fmt: skip
    again = body.client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert again.json()["session_id"] == first["session_id"]
    assert again.json()["refresh_token"] != first["refresh_token"]
    listed = body.client.get("/auth/sessions", headers=bearer(again.json()))
    assert [(s["device"], s["current"], s["refreshes"]) for s in listed.json()["sessions"]] == [("laptop", True, 1)]  # fmt: skip
    assert listed.headers["cache-control"] == "no-store"
    assert body.client.post("/auth/logout", headers=bearer(again.json())).status_code == 204
    assert code(body.client.get("/auth/sessions", headers=bearer(again.json())))[0] == 401
    gone = body.client.post("/auth/refresh", json={"refresh_token": again.json()["refresh_token"]})
    assert code(gone) == (401, "SESSION_ENDED")
    assert "set-cookie" not in gone.headers


def test_nobody_learns_what_was_wrong_with_a_login(body: Scene) -> None:
    """One answer for an unknown name and for a wrong password; a second factor is asked for after the password."""
    wrong = [body.login(username="eve"), body.login(password="x")]
    assert {code(got) for got in wrong} == {(401, "LOGIN_REFUSED")}
    assert {got.json()["error"]["message"] for got in wrong} == {"The credentials are wrong"}
    assert wrong[0].headers["www-authenticate"] == "Bearer"
    assert code(body.login(strict=True)) == (401, "SECOND_FACTOR_REQUIRED")
    assert code(body.login(strict=True, password="x")) == (401, "LOGIN_REFUSED")
    assert body.login(strict=True, code="123456").status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"", "application/json", (422, "VALIDATION_ERROR")),
        (b"{", "application/json", (400, "MALFORMED_BODY")),
        (b"{}", "text/plain", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b"username=ada", "application/x-www-form-urlencoded", (415, "UNSUPPORTED_MEDIA_TYPE")),
        (b"[]", "application/json", (422, "VALIDATION_ERROR")),
        (b'{"username": 7, "password": "s3cret"}', "application/json", (422, "VALIDATION_ERROR")),
        (b'{"username": "' + b"x" * 20_000 + b'"}', "application/json", (413, "PAYLOAD_TOO_LARGE")),
    ],
)  # fmt: skip
def test_bad_bodies_are_refused(
    body: Scene, content: bytes, kind: str, expected: tuple[int, str]
) -> None:
    """As everywhere, and nothing of them comes back."""
    got = body.client.post("/auth/login", content=content, headers={"Content-Type": kind})
    assert code(got) == expected
    assert "s3cret" not in got.text


def test_a_spent_token_kills_its_family_and_a_dead_store_nobody(
    body: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """REUSE is 401 and audited; a store that is down is 503, and the same token works afterwards."""
    caplog.set_level(logging.INFO, "backendkit.audit")
    first = body.login().json()
    second = body.client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    body.store.inject(UNAVAILABLE)
    down = body.client.post("/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    assert down.status_code == 503
    body.clock.advance(11_000_000)
    reused = body.client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert code(reused) == (401, "TOKEN_REUSED")
    dead = body.client.post("/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    assert code(dead) == (401, "SESSION_ENDED")
    said = caplog.text
    assert "session.login" in said
    assert "denied" in said
    for token in (first["refresh_token"], first["access_token"], "hunter2!"):
        assert token not in said


def test_two_tabs_get_the_same_successor(body: Scene) -> None:
    """Within the grace time, byte for byte."""
    sent = {"refresh_token": body.login().json()["refresh_token"]}
    one, other = (body.client.post("/auth/refresh", json=sent).json() for _ in range(2))
    assert one["refresh_token"] == other["refresh_token"]


def test_sessions_are_ended_by_their_user_alone(body: Scene) -> None:
    """One, or all; another user's are as unknown as those that never were."""
    laptop, phone = body.login().json(), body.login(device="phone").json()
    other = body.tokens.issue("user-eve")
    for sid in (other.session_id, "x", "a" * 24, "%2e%2e", "a\u00e9"):
        got = body.client.delete(f"/auth/sessions/{sid}", headers=bearer(laptop))
        assert got.status_code == 404, sid
    assert len(body.tokens.sessions("user-eve")) == 1
    gone = body.client.delete(f"/auth/sessions/{phone['session_id']}", headers=bearer(laptop))
    assert (gone.status_code, gone.content) == (204, b"")
    assert code(body.client.get("/auth/sessions", headers=bearer(phone)))[0] == 401
    body.login()
    assert body.client.post("/auth/logout/all", headers=bearer(laptop)).status_code == 204
    assert body.tokens.sessions("user-ada") == []
    assert code(body.client.post("/auth/logout/all", headers=bearer(laptop)))[0] == 401


def test_logout_by_refresh_token_is_never_an_error(body: Scene) -> None:
    """RFC 7009 section 2.2: a token that is no good any more is as good as revoked. No credentials at all are 401."""
    pair = body.login().json()
    for token in (pair["refresh_token"], pair["refresh_token"], "junk"):
        assert body.client.post("/auth/logout", json={"refresh_token": token}).status_code == 204
    assert body.tokens.sessions("user-ada") == []
    assert code(body.client.post("/auth/logout")) == (401, "NOT_AUTHENTICATED")
    assert code(body.client.post("/auth/logout", headers=bearer({"access_token": "x"})))[0] == 401


def test_who_is_listed_is_the_client_behind_the_proxy(body: Scene) -> None:
    """Address, agent and device, without control characters, cut to their bounds."""
    headers = {"X-Forwarded-For": "203.0.113.9", "User-Agent": "a" * 500}
    sent = {**LOGIN, "device": "my\r\nphone" + "x" * 200}
    pair = body.client.post("/auth/login", json=sent, headers=headers).json()
    (listed,) = body.client.get("/auth/sessions", headers=bearer(pair)).json()["sessions"]
    assert listed["address"] == "203.0.113.9"
    assert (len(listed["agent"]), len(listed["device"])) == (96, 64)
    assert listed["device"].startswith("my  phone")


def test_a_life_of_a_session_in_cookies(jar: Scene) -> None:
    """No token in any body; the refresh cookie goes to the routes of its prefix alone."""
    got = jar.login()
    names = {c.name: (c.path, c.secure) for c in jar.client.cookies.jar}
    assert names == {"__Host-access": ("/", True), "__Secure-refresh": ("/auth", True), "__Host-csrf": ("/", True)}  # fmt: skip
    assert set(got.json()) == {"expires_in", "refresh_expires_in", "session_id", "csrf_token"}
    assert all("HttpOnly" in line or "csrf" in line for line in got.headers.get_list("set-cookie"))
    assert got.headers["cache-control"] == "no-store"
    before = jar.client.cookies.get(COOKIES.csrf)
    again = jar.client.post("/auth/refresh", headers=jar.csrf())
    assert again.status_code == 200
    assert jar.client.cookies.get(COOKIES.csrf) == before == again.json()["csrf_token"]
    assert jar.client.get("/auth/sessions").json()["sessions"][0]["refreshes"] == 1
    assert jar.client.post("/auth/logout", headers=jar.csrf()).status_code == 204
    assert list(jar.client.cookies.jar) == []
    assert jar.tokens.sessions("user-ada") == []
    assert jar.client.post("/auth/logout", headers=OWN).status_code == 204
    assert code(jar.client.post("/auth/refresh", headers=OWN)) == (401, "NOT_AUTHENTICATED")


def test_a_refresh_token_that_is_over_leaves_no_cookies_behind(jar: Scene) -> None:
    """Reused, revoked or junk: cleared with the refusal; a store that is down and a forged page clear nothing."""
    jar.login()
    jar.store.inject(UNAVAILABLE)
    assert jar.client.post("/auth/refresh", headers=jar.csrf()).status_code == 503
    assert code(jar.client.post("/auth/refresh", headers=OWN)) == (403, "CSRF_REFUSED")
    assert len(jar.client.cookies.jar) == 3
    jar.tokens.revoke_all("user-ada")
    got = jar.client.post("/auth/refresh", headers=jar.csrf())
    assert code(got) == (401, "SESSION_ENDED")
    assert sorted(got.headers.get_list("set-cookie")) == sorted(COOKIES.clear())
    assert list(jar.client.cookies.jar) == []
    junk = {**OWN, "Cookie": f"{COOKIES.refresh}=junk"}
    got = jar.client.post("/auth/refresh", headers=junk)
    assert len(got.headers.get_list("set-cookie")) == 3


def test_other_sites_neither_log_in_nor_refresh_nor_log_out(jar: Scene) -> None:
    """Origin and Fetch Metadata on all; the signed token, of this very session, where cookies speak."""
    for other in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        got = jar.client.post("/auth/login", json=LOGIN, headers=other)
        assert code(got) == (403, "CSRF_REFUSED")
    jar.login()
    good = jar.csrf()
    foreign = csrf_token(jar.tokens.secret, "another session")
    for path in ("/auth/refresh", "/auth/logout", "/auth/logout/all"):
        for headers in (
            {}, OWN, {**good, "Origin": "https://evil.example"}, {**OWN, "X-CSRF-Token": foreign},
            {**good, "X-CSRF-Token": good["X-CSRF-Token"][:-1]},
        ):  # fmt: skip
            assert code(jar.client.post(path, headers=headers)) == (403, "CSRF_REFUSED"), path
    assert len(jar.tokens.sessions("user-ada")) == 1
    app = {**good, "Origin": "https://app.example"}
    assert jar.client.post("/auth/refresh", headers=app).status_code == 200
    sid = jar.tokens.sessions("user-ada")[0].id
    assert code(jar.client.delete(f"/auth/sessions/{sid}"))[0] == 403
    assert jar.client.delete(f"/auth/sessions/{sid}", headers=jar.csrf()).status_code == 204
    assert list(jar.client.cookies.jar) == []


def test_planted_cookies_win_nothing(jar: Scene) -> None:
    """Two of a name are refused; a planted session with its own CSRF cookie does not fit the other's header."""
    jar.login()
    mine, csrf = jar.client.cookies.get(COOKIES.refresh), jar.client.cookies.get(COOKIES.csrf)
    evil = jar.tokens.issue("user-eve")
    jar.client.cookies.clear()
    tossed = [
        f"{COOKIES.refresh}={mine}; {COOKIES.refresh}={evil.refresh_token}; {COOKIES.csrf}={csrf}",
        f"{COOKIES.refresh}={mine}; {COOKIES.csrf}={csrf}; {COOKIES.csrf}={csrf}",
    ]
    for line in tossed:
        headers = {**OWN, "Cookie": line, "X-CSRF-Token": csrf or ""}
        got = jar.client.post("/auth/refresh", headers=headers)
        assert code(got) == (401, "INVALID_TOKEN")
        assert "set-cookie" not in got.headers  # ours would go, and the planted one stay
    fixed = {**OWN, "Cookie": f"{COOKIES.refresh}={evil.refresh_token}; {COOKIES.csrf}={csrf}", "X-CSRF-Token": csrf or ""}  # fmt: skip
    assert code(jar.client.post("/auth/refresh", headers=fixed)) == (403, "CSRF_REFUSED")
    got = jar.client.post("/auth/login", json=LOGIN, headers={**OWN, "Cookie": tossed[0]})
    assert got.status_code == 200


def test_a_login_never_goes_on_with_a_session_that_was_there(jar: Scene) -> None:
    """ASVS 5.0, 7.2.4: a new session each time, and the one before has ended."""
    first = jar.login().json()["session_id"]
    second = jar.login().json()["session_id"]
    assert first != second
    assert [one.id for one in jar.tokens.sessions("user-ada")] == [second]
    jar.client.cookies.delete(COOKIES.refresh)
    jar.login()
    assert len(jar.tokens.sessions("user-ada")) == 1


def test_a_bad_bearer_token_does_not_log_the_cookie_out(jar: Scene) -> None:
    """What says who it is in a header is believed in the header."""
    jar.login()
    bad = {"Authorization": "Bearer junk", **jar.csrf()}
    assert code(jar.client.post("/auth/logout", headers=bad))[0] == 401
    assert len(jar.tokens.sessions("user-ada")) == 1
    pair = jar.tokens.issue("user-ada")
    jar.client.cookies.clear()
    assert jar.client.post("/auth/logout", headers=bearer(pair.as_dict())).status_code == 204


def test_an_old_secret_renews_its_csrf_token() -> None:
    """While the secret in use gives the same token again, for another tab may have read it."""
    scene = Scene(on_flask, COOKIES)
    old, new = bytes(range(32)), bytes(range(1, 33))
    tokens = Tokens(
        keys=scene.tokens.keys, secret=SecretRing({"a": old}), issuer="https://id", audience="api", store=scene.store,
        clock=scene.clock,
    )  # fmt: skip
    scene.client = on_flask(tokens, COOKIES)
    scene.login()
    before = scene.client.cookies.get(COOKIES.csrf)
    kept = scene.client.cookies
    rotated = Tokens(
        keys=scene.tokens.keys, secret=SecretRing({"b": new, "a": old}), issuer="https://id", audience="api",
        store=scene.store, clock=scene.clock,
    )  # fmt: skip
    scene.client = on_flask(rotated, COOKIES)
    scene.client.cookies = kept
    headers = scene.csrf()
    assert scene.client.post("/auth/refresh", headers=headers).status_code == 200
    assert scene.client.cookies.get(COOKIES.csrf) != before
    assert scene.client.post("/auth/refresh", headers=scene.csrf()).status_code == 200


def test_public_keys_are_cached_and_asked_for_cheaply(body: Scene) -> None:
    """ETag, max-age, 304; a reload of the ring shows at once, and a key that has ended goes."""
    url = "/.well-known/jwks.json"
    got = body.client.get(url)
    assert got.headers["content-type"] == "application/jwk-set+json"
    assert got.headers["cache-control"] == "public, max-age=3600"
    assert [key["kid"] for key in got.json()["keys"]] == [key.kid for key in body.tokens.keys.keys]
    assert "d" not in got.json()["keys"][0]
    etag = got.headers["etag"]
    for sent in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        kept = body.client.get(url, headers={"If-None-Match": sent})
        assert (kept.status_code, kept.content, kept.headers["etag"]) == (304, b"", etag)
        assert kept.headers["cache-control"] == "public, max-age=3600"
    for sent in ('"x"', etag.strip('"'), '"'):
        assert body.client.get(url, headers={"If-None-Match": sent}).status_code == 200
    assert body.client.head(url).content == b""
    body.tokens.keys.reload([*body.tokens.keys.keys, Key.generate("EdDSA")])
    anew = body.client.get(url, headers={"If-None-Match": etag})
    assert (anew.status_code, len(anew.json()["keys"])) == (200, 2)


def test_keys_that_have_ended_leave_the_page_and_secrets_never_enter_it() -> None:
    """By the page's clock."""
    clock = ManualClock()
    until = clock.wall_us() + 1_000_000
    ring = KeyRing([Key.generate("EdDSA", until_us=until), Key.generate("EdDSA")])
    page = JwksPage(ring, clock=clock)
    assert len(json.loads(page.answer().body)["keys"]) == 2
    clock.advance(1_000_000)
    assert len(json.loads(page.answer().body)["keys"]) == 1
    with pytest.raises(ValueError, match="must be asymmetric"):
        JwksPage(KeyRing.generate("HS256"))
    with pytest.raises(ValueError, match="max_age"):
        JwksPage(ring, max_age=3_601)


def test_what_cannot_work_is_refused_when_it_is_mounted() -> None:
    """No store, a prefix that the cookie would not be sent to, the wrong colour."""
    tokens = Scene(on_flask, None).tokens
    stateless = Tokens(keys=tokens.keys, secret=tokens.secret, issuer="i", audience="a")
    with pytest.raises(ValueError, match="must have a store"):
        SessionFlows(stateless)
    with pytest.raises(ValueError, match="must be the cookies'"):
        session_router(tokens, known, cookies=COOKIES, prefix="/api/auth")
    with pytest.raises(ValueError, match="must be a def"):
        session_blueprint(tokens, known_async)
    with pytest.raises(ValueError, match="must be a def"):
        session_blueprint(tokens, KnownAsync())
    assert SessionFlows(tokens, prefix="/v1/auth").prefix == "/v1/auth"


def test_the_document_shows_bodies_errors_and_the_scheme() -> None:
    """With the scheme on the routes that want a token, and no body where cookies carry it."""
    tokens = Scene(on_flask, None).tokens
    app = FastAPI()
    install_fastapi(app, Kit())
    app.include_router(session_router(tokens, known))
    document = app.openapi()
    login = document["paths"]["/auth/login"]["post"]
    schema = login["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["username", "password"]
    assert {"401", "403", "503"} <= set(login["responses"])
    assert document["paths"]["/auth/sessions"]["get"]["security"] == [{"bearer": []}]
    assert "security" not in login
    cookies = FastAPI()
    cookies.include_router(session_router(tokens, known, cookies=COOKIES))
    assert "requestBody" not in cookies.openapi()["paths"]["/auth/refresh"]["post"]


def test_reprs_show_no_secret() -> None:
    """Of nothing that holds one on its way."""
    things = [
        Login(username="ada", password="s3cret", code="s3cret", more={"x": "s3cret"}),
        LoginBody(username="ada", password="s3cret", code="s3cret"), RefreshBody(refresh_token="s3cret"),
        Credential("s3cret", by_cookie=True), Answer(200, [("Set-Cookie", "s3cret")], b"s3cret"),
        Call(None, b"s3cret"),  # type: ignore[arg-type]
    ]  # fmt: skip
    assert "s3cret" not in repr(things)


def test_a_cookie_that_browsers_would_drop_is_refused() -> None:
    """Rather than a login that looks as if it had worked."""
    tokens = Scene(on_flask, None).tokens
    pair = tokens.issue("u", claims={"x": "y" * 2_000})
    assert len(COOKIES.set(pair, "c")) == 3
    with pytest.raises(ValueError, match="browsers drop"):
        COOKIES.set(replace(pair, access_token="x" * 4_090), "c")


def test_the_login_alone_can_be_limited() -> None:
    """By a dependency, or by a decorator: whatever the framework takes."""
    tokens = Scene(on_flask, None).tokens
    app, web = FastAPI(), Flask(__name__)
    kit = Kit()
    one, other = (kit.limiter(Limit("logins", "1/hour"), name=name) for name in ("one", "other"))
    install_fastapi(app, kit)
    install_flask(web, Kit())
    app.include_router(session_router(tokens, known, login=[RateLimit(one)]))
    web.register_blueprint(session_blueprint(tokens, known, login=limited(other)))
    transports: list[httpx.BaseTransport] = [_Loop(app), httpx.WSGITransport(web)]
    for transport in transports:
        with httpx.Client(transport=transport, base_url=BASE) as client:
            pair = client.post("/auth/login", json=LOGIN).json()
            assert client.post("/auth/login", json=LOGIN).status_code == 429
            sent = {"refresh_token": pair["refresh_token"]}
            assert client.post("/auth/refresh", json=sent).status_code == 200
