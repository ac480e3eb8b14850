"""The corners of the tokens feature: what is refused when it is handed in, and what shows of it."""

import asyncio
import copy
import json
import pickle
from typing import Any

import pytest

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument, RateLimited
from backendkit.stores import MemoryStore
from backendkit.tokens import jws
from backendkit.tokens.encoding import encode
from backendkit.tokens.errors import InvalidToken, KeyRefused, SessionEnded
from backendkit.tokens.face import Tokens
from backendkit.tokens.keys import Key
from backendkit.tokens.mint import REFRESH_TYPE
from backendkit.tokens.one_time import OneTime
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.totp import Factor, MemoryFactors, SecondFactor
from backendkit.tokens.verifier import Verifier

RING = KeyRing.generate("EdDSA")
OLD, NEW = {"s1": bytes(range(32))}, {"s2": bytes(range(1, 33))}
ISSUER = "https://id.example"


def make(**options: Any) -> Tokens:
    """Return tokens in memory."""
    arguments: dict[str, Any] = {
        "keys": RING, "secret": SecretRing(OLD), "issuer": ISSUER, "audience": "api",
        "store": MemoryStore(clock=ManualClock()), **options,
    }  # fmt: skip
    return Tokens(**arguments)


def test_a_refresh_token_that_we_signed_and_never_made_is_refused() -> None:
    """A generation below one, a session id of another user: no script is asked."""
    tokens = make()
    claims = {"iss": ISSUER, "sub": "user-1", "aud": ISSUER, "sid": "A" * 24, "gen": 1, "at": 5}
    sid = tokens.issue("user-1").session_id
    for changes in (
        {}, {"sid": sid, "gen": 0}, {"sid": sid, "gen": 2**53}, {"sid": sid, "gen": "1"}, {"sid": sid, "gen": True},
        {"sid": sid, "at": -1}, {"sid": sid, "at": 1.5}, {"sid": sid, "sub": "user-2"}, {"sid": f"{sid}/"},
    ):  # fmt: skip
        payload = json.dumps({**claims, **changes}).encode()
        forged = jws.sign(payload, SecretRing(OLD).active("refresh"), typ=REFRESH_TYPE)
        with pytest.raises(InvalidToken):
            tokens.refresh(forged)
    assert tokens.sessions("user-1")[0].refreshes == 0


def test_a_secret_that_was_taken_out_too_soon_ends_the_session() -> None:
    """A replay whose successor was derived from a secret that is gone cannot be answered with the same bytes."""
    store = MemoryStore(clock=ManualClock())
    before = make(store=store)
    pair = before.refresh(before.issue("user-1").refresh_token)
    both = make(store=store, secret=SecretRing({**NEW, **OLD}))
    both.refresh(pair.refresh_token)
    with pytest.raises(SessionEnded, match="secret"):
        make(store=store, secret=SecretRing(OLD)).refresh(pair.refresh_token)


def test_loaders_must_return_grants() -> None:
    """A mistake of the application's is no 401."""
    tokens = make(loader=lambda _: {"roles": ["admin"]})
    pair = tokens.issue("user-1")
    with pytest.raises(InvalidArgument, match="Grants"):
        tokens.refresh(pair.refresh_token)


def test_without_a_store_there_are_no_sessions_on_either_face() -> None:
    """Said so, instead of failing somewhere inside."""
    tokens = make(store=None)
    with pytest.raises(InvalidArgument, match="store"):
        asyncio.run(tokens.aio.issue("user-1"))
    assert tokens.aio.sync is tokens
    wrong: list[dict[str, Any]] = [{"issuer": ""}, {"audience": ""}, {"audience": []}]
    for options in wrong:
        with pytest.raises(InvalidArgument):
            make(**options)


def test_principals_go_to_json_and_through_pickle() -> None:
    """They are claims and nothing else."""
    principal = make(store=None).peek(make(store=None).mint("user-1", claims={"a": {"b": [1]}}))
    again = pickle.loads(pickle.dumps(principal))
    assert again.as_dict() == principal.as_dict() == json.loads(json.dumps(principal.as_dict()))
    assert principal.token_id == principal.claims["jti"]
    assert principal.expires_at == principal.claims["exp"]
    with pytest.raises(AttributeError):
        principal.claims = {}
    pair = make().issue("user-1")
    assert pair.as_dict()["token_type"] == "Bearer"
    with pytest.raises(TypeError):
        copy.copy(pair)


def test_verifiers_take_text_and_bytes_and_nothing_else() -> None:
    """Whatever its type, it is our error."""
    verifier = Verifier(RING, issuer=None, audience=None, require=())
    token = jws.sign(b'{"sub":"u"}', RING.keys[0])
    assert verifier.verify(token) == verifier.verify(token.encode()) == {"sub": "u"}
    for junk in (None, 5, bytearray(b"a.b.c"), b"a" * 9_000, b"\xff.a.b", "a.b.c.d", "a..b"):
        for verify in (verifier.verify, lambda one: jws.verify(one, RING)):
            with pytest.raises(InvalidToken):
                verify(junk)  # type: ignore[arg-type]
    assert "None" in repr(verifier)
    head, _, signature = token.split(".")
    with pytest.raises(InvalidToken):
        jws.verify(f"{head}.AB.{signature}", RING)
    odd = encode(b'{"alg":"EdDSA","kid":"%s"}' % RING.keys[0].kid.encode()) + b".AB"
    signed = odd + b"." + encode(RING.keys[0].sign(odd))
    with pytest.raises(InvalidToken, match="payload"):
        jws.verify(signed, RING)


def test_a_key_that_has_ended_is_refused_at_first_sight() -> None:
    """Before its signature is looked at, whether the header was seen or not."""
    clock = ManualClock(10 * SECOND_US)
    ring = KeyRing([Key.generate("ES256", until_us=10 * SECOND_US)])
    verifier = Verifier(ring, issuer=None, audience=None, require=(), clock=clock)
    with pytest.raises(InvalidToken, match="ended"):
        verifier.verify(jws.sign(b"{}", ring.keys[0]))


def test_keys_are_made_of_what_they_are_made_of() -> None:
    """Each mistake by its rule."""
    with pytest.raises(KeyRefused, match="bytes"):
        Key.from_secret("x" * 32)  # type: ignore[arg-type]
    with pytest.raises(KeyRefused, match="no symmetric"):
        Key.from_secret(bytes(range(32)), "ES256")
    with pytest.raises(KeyRefused, match="another alg"):
        Key.from_jwk(RING.keys[0].jwk(), "ES256")
    with pytest.raises(KeyRefused, match="canonical"):
        Key.from_jwk({"kty": "oct", "k": "A" * 43 + "=", "alg": "HS256"})


def test_a_one_time_token_under_a_secret_that_is_gone() -> None:
    """It cannot be compared, and so is not ours any more."""
    store = MemoryStore(clock=ManualClock())
    old = OneTime("reset", secret=SecretRing(OLD), store=store, issuer=ISSUER)
    new = OneTime("reset", secret=SecretRing(NEW), store=store, issuer=ISSUER)
    token = old.issue("user-1", bound="x")
    with pytest.raises(InvalidToken):
        new.take(token, bound="x")
    assert "reset" in repr(new)


class Contended(MemoryFactors):
    """Somebody else always writes first."""

    def put(self, factor: Factor, *, if_version: int | None) -> bool:
        """Lose, once enrolled."""
        return if_version is None and super().put(factor, if_version=None)


def test_a_repository_that_never_lets_us_write_is_429() -> None:
    """An attempt that cannot be counted is not compared."""
    factor = SecondFactor(Contended(), issuer="Acme", clock=ManualClock())
    factor.enrol("user-1")
    with pytest.raises(RateLimited):
        factor.verify("user-1", "000000")
    assert not MemoryFactors().put(Factor("user-2", b"seed"), if_version=0)
