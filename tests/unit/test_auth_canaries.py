"""A secret that goes through passwords and tokens shows in no repr, text, pickle, event, log or error on its way."""

import base64
import copy
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.events import Hooks
from backendkit.errors import Errors
from backendkit.http.login import Login, LoginBody, RefreshBody
from backendkit.http.sessions import Answer, Call
from backendkit.http.tokens import CookiePolicy, Credential, credential, csrf_token
from backendkit.passwords import PasswordHasher, PasswordPolicy, PepperRing, Profile
from backendkit.settings import Settings
from backendkit.stores import MemoryStore
from backendkit.tokens import (
    ApiKeys,
    Key,
    KeyRing,
    MemoryApiKeys,
    MemoryFactors,
    OneTime,
    SecondFactor,
    SecretRing,
    Tokens,
    jws,
)

CANARY = "canary-7Qx9"
"""Stands in what a user or an operator keeps secret."""

SECRET = (CANARY + " of many different bytes, 0123456789").encode()


class Told:
    """Everything that came out by the way: events, log records, errors with all that led to them."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.seen: list[str] = []
        self.secrets = [
            CANARY, CANARY.encode().hex(), base64.b64encode(CANARY.encode())[:-4].decode()
        ]  # fmt: skip
        self.hooks.add(lambda event: self.seen.append(repr(event)))

    def tries(self, work: Callable[[], Any]) -> None:
        """Do what fails, and keep what its error says: to a log, to a debugger's list of locals, to a client."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not show
            self.seen += [str(error), repr(error), repr(vars(error))]
            self.seen += traceback.format_exception(error)
            self.seen.append(Errors().render(error).body.decode())
            with_pickle(error, self.seen)
        else:
            pytest.fail("it was meant to fail")


def with_pickle(thing: object, seen: list[str]) -> None:
    """Keep what a pickle or a copy of a thing would carry; refusing to be one is as good."""
    ways: tuple[Callable[[object], bytes], ...] = (
        pickle.dumps,
        lambda one: pickle.dumps(copy.copy(one)),
    )
    for way in ways:
        try:
            seen.append(way(thing).decode("latin-1"))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            seen.append(str(error))


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    """Collect; at the end, look for the secrets in every spelling."""
    caplog.set_level(logging.DEBUG)
    found = Told()
    yield found
    text = "\n".join([*found.seen, caplog.text, *(repr(vars(r)) for r in caplog.records)])
    for secret in found.secrets:
        assert secret not in text
        assert repr(secret)[1:-1] not in text


def test_passwords_and_peppers(told: Told) -> None:
    """Hashed, refused, too long, not text; against rows of every kind."""
    peppers = PepperRing({"a": SECRET})
    hasher = PasswordHasher(
        Profile(memory_kib=64, iterations=1), peppers=peppers, failure_time=0.000_001, hooks=told.hooks,
        clock=ManualClock(),
    )  # fmt: skip
    stored = hasher.hash(CANARY)
    for row in (stored, None, "", CANARY, "$argon2id$" + CANARY, stored.replace("k=a", "k=b")):
        told.seen.append(repr(hasher.verify(row, CANARY)))
    attempt = hasher.prepare(stored, CANARY)
    told.seen += map(repr, (hasher, peppers, hasher.aio, hasher.verify(stored, "no")))
    told.seen += (repr(attempt), repr(attempt.work))
    for bad in (CANARY + "\ud800", CANARY * 1_000):
        told.tries(partial(hasher.hash, bad))
    policy = PasswordPolicy(blocklist=[CANARY])
    told.tries(lambda: policy.require(CANARY))
    told.tries(lambda: PepperRing({"a": CANARY.encode()}))
    told.tries(lambda: PepperRing({"a": CANARY * 4}))  # type: ignore[dict-item]
    for thing in (peppers, hasher, policy):
        told.seen.append(repr(thing))
    with_pickle(peppers, told.seen)
    with_pickle(hasher, told.seen)


def test_keys_and_secrets(told: Told) -> None:
    """Read from every form, good and broken."""
    jwk = {
        "kty": "oct",
        "alg": "HS256",
        "k": base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode(),
    }
    told.secrets.append(jwk["k"])
    key, ring, secret = (
        Key.from_secret(SECRET),
        KeyRing.from_jwks({"keys": [jwk]}),
        SecretRing({"a": SECRET}),
    )
    for thing in (key, ring, secret):
        told.seen += (repr(thing), str(thing))
        with_pickle(thing, told.seen)
    private = Key.generate("ES256").jwk(private=True)
    told.secrets.append(private["d"])
    broken: list[Callable[[], Any]] = [
        lambda: Key.from_secret(CANARY.encode()), lambda: Key.from_secret(CANARY),  # type: ignore[arg-type]
        lambda: Key.from_jwk({**jwk, "k": jwk["k"] + "="}), lambda: Key.from_jwk({**jwk, "alg": "RS256"}),
        lambda: Key.from_jwk({**private, "crv": "P-384"}), lambda: Key.from_jwk({**private, "x": "AA"}),
        lambda: Key.from_jwk({**jwk, "use": "enc"}), lambda: KeyRing.from_jwks({"keys": [jwk, jwk]}),
        lambda: KeyRing.from_text(f'{{"kty": "oct", "k": "{CANARY}'), lambda: KeyRing.from_text(CANARY),
        lambda: Key.from_pem(f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"),
        lambda: Key.from_pem(CANARY, password=SECRET), lambda: SecretRing.from_text(f"a:{CANARY}"),
        lambda: SecretRing({"a": CANARY.encode()}), lambda: SecretRing({"a": CANARY * 4}),  # type: ignore[dict-item]
        lambda: Tokens(keys=ring, secret=secret, issuer="", audience="a"),
        lambda: jws.verify(CANARY, ring),
    ]  # fmt: skip
    for work in broken:
        told.tries(work)


@pytest.mark.parametrize(
    "name", ["TOKENS__SECRETS", "TOKENS__KEYS", "PASSWORDS__PEPPERS", "STORE__URL"]
)
def test_settings(told: Told, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A secret that cannot be read is named, not shown."""
    monkeypatch.setenv(f"BACKENDKIT_{name}", CANARY)
    told.tries(lambda: Settings.from_env(env_file=None))


def test_tokens_on_their_way(told: Told) -> None:
    """Issued, refreshed, refused, handed out in cookies."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    secret = SecretRing.generate()
    tokens = Tokens(
        keys=KeyRing.generate("HS256"), secret=secret, issuer="https://id", audience="api",
        store=store, clock=clock, hooks=told.hooks,
    )  # fmt: skip
    pair = tokens.issue("ada")
    once = OneTime("reset", secret=secret, store=store, issuer="https://id")
    link = once.issue("ada", bound=CANARY)
    csrf = csrf_token(secret, pair.session_id)
    api_key, record = ApiKeys(MemoryApiKeys(), prefix="bk").issue("ada")
    enrolment = SecondFactor(MemoryFactors(), issuer="x").enrol("ada")
    hidden = [
        pair.access_token,
        pair.refresh_token,
        link,
        csrf,
        api_key,
        enrolment.uri,
        *enrolment.recovery_codes,
    ]
    told.secrets += hidden
    body = pair.refresh_token.encode()
    things: list[Any] = [
        pair, tokens, tokens.aio, once, once.aio, record, enrolment, tokens.verify(pair.access_token),
        credential([f"Bearer {pair.access_token}"], [], None), Credential(pair.access_token, by_cookie=True),
        Answer(200, [("Set-Cookie", pair.access_token)], body), Call(None, body), once.peek(link),  # type: ignore[arg-type]
        Login(username="ada", password=CANARY, code=CANARY, more={"extra": CANARY}),
        LoginBody.model_validate({"username": "ada", "password": CANARY, "code": CANARY, "extra": CANARY}),
        RefreshBody(refresh_token=pair.refresh_token),
    ]  # fmt: skip
    for thing in things:
        told.seen += (repr(thing), str(thing), repr([thing]))
        with_pickle(thing, told.seen)
    tokens.refresh(pair.refresh_token)
    tokens.refresh(pair.refresh_token)
    clock.advance(11_000_000)
    told.tries(lambda: tokens.refresh(pair.refresh_token))
    told.tries(lambda: tokens.refresh(pair.refresh_token))
    told.tries(lambda: tokens.verify(pair.access_token[:-1]))
    told.tries(lambda: tokens.verify(pair.refresh_token))
    told.tries(lambda: once.take(link, bound="another"))
    told.tries(lambda: CookiePolicy().set(pair, "x" * 5_000))
    clock.advance(10_000_000_000)
    told.tries(lambda: tokens.verify(pair.access_token))
