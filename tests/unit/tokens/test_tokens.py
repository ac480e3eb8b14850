"""Token pairs: issuing, checking, refreshing; what each failure costs, and whom."""

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import (
    InvalidArgument,
    OutcomeUnknown,
    ServiceUnavailable,
    StoreUnavailable,
)
from backendkit.stores import MemoryStore
from backendkit.tokens import jws
from backendkit.tokens.errors import (
    InvalidToken,
    KeyRefused,
    SessionEnded,
    TokenError,
    TokenExpired,
    TokenReused,
    TokenRevoked,
)
from backendkit.tokens.face import Tokens
from backendkit.tokens.keys import Key
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.principal import Client, Grants
from backendkit.tokens.purpose import Purpose
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from tests.ground.loops import in_threads
from tests.unit.tokens.oracle import Oracle

RING = KeyRing.generate("EdDSA")
SECRET = SecretRing.generate()


class Flaky(MemoryStore):
    """A memory store that counts, and fails before or after it has run when told."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.runs = 0
        self.before: Exception | None = None
        self.after: Exception | None = None

    def run(self, operation: Any) -> Any:
        """Count, fail, run, fail."""
        self.runs += 1
        if self.before is not None:
            raise self.before
        result = super().run(operation)
        if self.after is not None:
            raise self.after
        return result


class Setting:
    """Tokens over a flaky store, and what they told."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.store = Flaky(self.clock)
        arguments: dict[str, Any] = {
            "keys": RING, "secret": SECRET, "issuer": "https://id.example", "audience": "api",
            "store": self.store, **options,
        }  # fmt: skip
        self.tokens = Tokens(**arguments)
        self.told: list[Any] = []
        self.tokens.hooks.add(self.told.append)


def test_a_pair_says_who_and_what() -> None:
    """Roles, scopes, extra claims, how and when the user logged in."""
    s = Setting()
    pair = s.tokens.issue(
        "user-1", roles=["editor"], scopes=["read", "write"], claims={"org": 7}, methods=["pwd"]
    )
    principal = s.tokens.verify(pair.access_token)
    assert (principal.subject, principal.session_id) == ("user-1", pair.session_id)
    assert (set(principal.roles), set(principal.scopes)) == ({"editor"}, {"read", "write"})
    assert (principal.claims["org"], principal.methods) == (7, ("pwd",))
    assert principal.auth_time == s.clock.wall_us() // SECOND_US
    assert (pair.expires_in, pair.refresh_expires_in) == (900, 604_800)
    header = json.loads(
        __import__("base64").urlsafe_b64decode(pair.access_token.split(".")[0] + "==")
    )
    assert header == {"alg": "EdDSA", "typ": "at+jwt", "kid": RING.keys[0].kid}


def test_a_refresh_keeps_what_the_login_granted_and_when_it_was() -> None:
    """Without a loader; `auth_time` stays the login's, or step-up would mean nothing."""
    s = Setting()
    pair = s.tokens.issue("user-1", roles=["editor"], claims={"org": 7}, methods=["pwd", "otp"])
    login = s.clock.wall_us() // SECOND_US
    s.clock.advance(3600 * SECOND_US)
    principal = s.tokens.verify(s.tokens.refresh(pair.refresh_token).access_token)
    assert (set(principal.roles), principal.claims["org"], principal.methods) == (
        {"editor"},
        7,
        ("pwd", "otp"),
    )
    assert principal.auth_time == login


def test_a_loader_is_asked_at_each_refresh() -> None:
    """Roles of yesterday are not roles of today."""
    grants = {"user-1": Grants(roles=["admin"], scopes=["a"])}
    s = Setting(loader=grants.get)
    pair = s.tokens.issue("user-1", roles=["editor"], methods=["pwd"])
    principal = s.tokens.verify(s.tokens.refresh(pair.refresh_token).access_token)
    assert (set(principal.roles), set(principal.scopes), principal.methods) == (
        {"admin"},
        {"a"},
        ("pwd",),
    )


@pytest.mark.parametrize("error", [RuntimeError("db"), StoreUnavailable("x")])
def test_a_loader_that_fails_rotates_nothing(error: Exception) -> None:
    """503, and the same token works when the database is back."""
    failing: list[Exception] = [error]

    def load(subject: str) -> Grants:
        if failing:
            raise failing.pop()
        return Grants()

    s = Setting(loader=load)
    pair = s.tokens.issue("user-1")
    with pytest.raises(ServiceUnavailable):
        s.tokens.refresh(pair.refresh_token)
    assert s.tokens.sessions("user-1")[0].refreshes == 0
    s.tokens.refresh(pair.refresh_token)


def test_a_user_who_is_gone_loses_the_family() -> None:
    """The loader says there is no such user."""
    s = Setting(loader=lambda _: None)
    pair = s.tokens.issue("user-1")
    with pytest.raises(SessionEnded):
        s.tokens.refresh(pair.refresh_token)
    assert s.tokens.sessions("user-1") == []


def test_async_loaders_are_awaited() -> None:
    """On the asynchronous face."""

    async def load(subject: str) -> Grants:
        await asyncio.sleep(0)
        return Grants(roles=[subject])

    s = Setting(loader=load)

    async def go() -> Any:
        pair = await s.tokens.aio.issue("user-1")
        again = await s.tokens.aio.refresh(pair.refresh_token)
        assert len(await s.tokens.aio.sessions("user-1")) == 1
        principal = await s.tokens.aio.verify(again.access_token)
        assert await s.tokens.aio.revoke(pair.session_id)
        assert await s.tokens.aio.revoke_all("user-1") == 0
        with pytest.raises(TokenRevoked):
            await s.tokens.aio.verify(again.access_token)
        return principal

    assert asyncio.run(go()).roles == {"user-1"}


def test_users_are_loaded_by_subject() -> None:
    """The application's own object; from both faces, with and without a store."""
    rows = {"user-1": object()}

    async def load(subject: str) -> object | None:
        return rows.get(subject)

    s = Setting(users=rows.get, hooks=None)
    principal = s.tokens.verify(s.tokens.issue("user-1").access_token)
    assert s.tokens.user(principal) is rows["user-1"]
    alone = Tokens(keys=RING, secret=SECRET, issuer="i", audience="a", users=load)
    assert asyncio.run(alone.aio.user(principal)) is rows["user-1"]
    with pytest.raises(InvalidArgument, match="aio"):
        alone.user(principal)
    del rows["user-1"]
    with pytest.raises(TokenRevoked):
        s.tokens.user(principal)
    with pytest.raises(TokenRevoked):
        asyncio.run(alone.aio.user(principal))
    with pytest.raises(InvalidArgument, match="users"):
        Setting().tokens.user(principal)


@pytest.mark.parametrize("error", [LookupError("db"), StoreUnavailable("x")])
def test_a_user_loader_that_fails_is_503(error: Exception) -> None:
    """The token may be good, and nobody should throw it away."""

    def load(_: str) -> object:
        raise error

    s = Setting(users=load)
    principal = s.tokens.verify(s.tokens.issue("user-1").access_token)
    with pytest.raises(ServiceUnavailable):
        s.tokens.user(principal)


def test_a_token_for_a_purpose_is_for_that_purpose_only() -> None:
    """Its own type, audience and lifetime; no access token, no refresh token, no other purpose's."""
    s = Setting()
    link = s.tokens.purpose("share-link", audience="files", lifetime=60)
    other = s.tokens.purpose("file")
    token = link.issue("user-1", claims={"file": "f-17", "may": ["read"]})
    claims = link.verify(token)
    assert (claims["sub"], claims["file"], claims["may"], claims["aud"]) == (
        "user-1",
        "f-17",
        ("read",),
        "files",
    )
    pair = s.tokens.issue("user-1")
    for foreign in (pair.access_token, pair.refresh_token, other.issue("user-1")):
        with pytest.raises(InvalidToken):
            link.verify(foreign)
    for refuse in (other.verify, s.tokens.verify, s.tokens.refresh):
        with pytest.raises(InvalidToken):
            refuse(token)
    same_audience = s.tokens.purpose("file", audience="files")
    with pytest.raises(InvalidToken):
        same_audience.verify(token)
    s.clock.advance(60 * SECOND_US)
    with pytest.raises(TokenExpired):
        link.verify(token)
    assert "share-link" in repr(link)


def test_a_purpose_may_be_signed_with_keys_that_others_verify() -> None:
    """Another service checks it with the public keys alone; the secret's holders do not take it for theirs."""
    s = Setting()
    signed = s.tokens.purpose("file", keys=RING, lifetime=900)
    token = signed.issue("user-1")
    public = KeyRing.from_jwks(json.loads(s.tokens.jwks().body))
    there = Purpose("file", keys=public, issuer="https://id.example", clock=s.clock)
    assert there.verify(token)["sub"] == "user-1"
    with pytest.raises(InvalidToken):
        s.tokens.purpose("file").verify(token)
    with pytest.raises(KeyRefused):
        there.issue("user-1")


@pytest.mark.parametrize(
    ("name", "options"),
    [("at", {}), ("rt", {}), ("once", {}), ("", {}), ("Share", {}), ("a/b", {}), ("-a", {}), ("a" * 33, {}),
     ("x", {"lifetime": 0}), ("x", {"lifetime": 367 * 86_400}), ("x", {"audience": ""})],
)  # fmt: skip
def test_purposes_are_checked_when_built(name: str, options: dict[str, Any]) -> None:
    """A purpose never borrows the type of another kind of token."""
    with pytest.raises(InvalidArgument):
        Setting().tokens.purpose(name, **options)


def test_claims_of_a_purpose_are_bounded() -> None:
    """No registered name, nothing that our own verifier would refuse."""
    link = Setting().tokens.purpose("share-link")
    for claims in ({"exp": 5}, {"aud": "x"}, {"big": "x" * 9_000}):
        with pytest.raises(InvalidArgument):
            link.issue("user-1", claims=claims)
    with pytest.raises(InvalidArgument):
        link.issue("")


def test_a_lost_answer_harms_nobody() -> None:
    """Killed between script and answer: 503; the same token again gives the successor that was made."""
    s = Setting()
    pair = s.tokens.issue("user-1")
    s.store.after = OutcomeUnknown("cut")
    with pytest.raises(OutcomeUnknown):
        s.tokens.refresh(pair.refresh_token)
    s.store.after = None
    successor = s.tokens.refresh(pair.refresh_token)
    assert s.tokens.sessions("user-1")[0].refreshes == 1
    s.tokens.refresh(successor.refresh_token)


def test_a_store_that_is_down_is_503_never_401() -> None:
    """A 401 would make clients throw good tokens away."""
    s = Setting()
    pair = s.tokens.issue("user-1")
    s.store.before = StoreUnavailable("down")
    for call in (
        lambda: s.tokens.refresh(pair.refresh_token),
        lambda: s.tokens.issue("user-1"),
        lambda: s.tokens.revoke_all("user-1"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert caught.value.status == 503


def test_a_bound_session_is_refreshed_by_its_client_only() -> None:
    """Another binding, or none: 401, and the family lives on for whom it belongs to."""
    s = Setting()
    pair = s.tokens.issue("user-1", bind="client-a")
    second = s.tokens.refresh(pair.refresh_token, bind="client-a")
    for bind in ("client-b", None, "client-a "):
        for token in (pair.refresh_token, second.refresh_token):
            with pytest.raises(InvalidToken):
                s.tokens.refresh(token, bind=bind)
    assert (
        s.tokens.refresh(pair.refresh_token, bind="client-a").refresh_token == second.refresh_token
    )


def test_junk_and_other_tokens_cost_no_round_trip() -> None:
    """Access as refresh and back, another issuer, another purpose's key: refused before the store is asked."""
    s, other = Setting(), Setting(secret=SecretRing.generate())
    pair, theirs = s.tokens.issue("user-1"), other.tokens.issue("user-1")
    before = s.store.runs
    csrf = jws.sign(b'{"sub":"user-1"}', SECRET.active("csrf"), typ="rt+jwt")
    for token in (
        pair.access_token,
        theirs.refresh_token,
        "",
        "a.b.c",
        csrf,
        pair.refresh_token + "=",
    ):
        with pytest.raises(InvalidToken):
            s.tokens.refresh(token)
    for token in (pair.refresh_token, csrf):
        with pytest.raises(InvalidToken):
            s.tokens.verify(token)
    assert s.store.runs == before


def test_the_reason_goes_to_the_event_and_not_to_the_public() -> None:
    """One public message for all of them."""
    s = Setting()
    texts = set()
    for token in ("", "a.b.c", RING.keys[0].kid, jws.sign(b"{}", RING.keys[0], typ="at+jwt")):
        with pytest.raises(InvalidToken) as caught:
            s.tokens.verify(token)
        texts.add(caught.value.text)
        assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert len(texts) == 1
    assert [e.reason for e in s.told] == ["segments", "header", "segments", "missing claim"]


def test_stateless_asks_nothing() -> None:
    """A revoked access token works until it expires, and says so in its mode's name."""
    s = Setting(policy=TokenPolicy(check="stateless"))
    pair = s.tokens.issue("user-1")
    s.tokens.revoke_all("user-1")
    before = s.store.runs
    s.tokens.verify(pair.access_token)
    assert s.store.runs == before
    s.clock.advance(900 * SECOND_US)
    with pytest.raises(TokenExpired):
        s.tokens.verify(pair.access_token)


def test_epoch_mode_asks_once_per_ttl() -> None:
    """No round trip within `epoch_ttl`, one after; another process's bump is seen by then."""
    s = Setting()
    elsewhere = Tokens(
        keys=RING, secret=SECRET, issuer="https://id.example", audience="api", store=s.store
    )
    pair = s.tokens.issue("user-1")
    before = s.store.runs
    for _ in range(10):
        s.tokens.verify(pair.access_token)
    assert s.store.runs == before
    elsewhere.revoke_all("user-1")
    s.clock.advance(5 * SECOND_US - 1)
    s.tokens.verify(pair.access_token)
    s.clock.advance(1)
    with pytest.raises(TokenRevoked):
        s.tokens.verify(pair.access_token)
    assert s.store.runs == before + 2
    with pytest.raises(TokenRevoked):
        s.tokens.verify(pair.access_token)
    assert s.store.runs == before + 2


def test_session_mode_asks_each_time() -> None:
    """One round trip for each token; a session that is gone is refused at once."""
    s = Setting(policy=TokenPolicy(check="session"))
    pair = s.tokens.issue("user-1")
    before = s.store.runs
    for _ in range(3):
        s.tokens.verify(pair.access_token)
    assert s.store.runs == before + 3
    s.tokens.revoke(pair.session_id)
    with pytest.raises(TokenRevoked):
        s.tokens.verify(pair.access_token)
    with pytest.raises(TokenRevoked):
        s.tokens.verify(s.tokens.mint("user-1"))


def test_with_the_store_down_the_policy_decides() -> None:
    """Closed by default; open for what is known, for as long as is said, and never for a known revocation."""
    closed, open_ = Setting(), Setting(policy=TokenPolicy(max_stale=60))
    for s in (closed, open_):
        pair, gone = s.tokens.issue("user-1"), s.tokens.issue("user-2")
        unknown = s.tokens.mint("user-3")
        s.tokens.revoke_all("user-2")
        s.store.before = StoreUnavailable("down")
        s.clock.advance(6 * SECOND_US)
        if s is closed:
            with pytest.raises(StoreUnavailable):
                s.tokens.verify(pair.access_token)
        else:
            s.tokens.verify(pair.access_token)
        with pytest.raises(TokenRevoked):
            s.tokens.verify(gone.access_token)
        with pytest.raises(StoreUnavailable):
            s.tokens.verify(unknown)
        s.clock.advance(60 * SECOND_US)
        with pytest.raises(StoreUnavailable):
            s.tokens.verify(pair.access_token)


def test_an_epoch_is_never_a_plain_counter() -> None:
    """After the store lost it, the next bump still lies above every earlier one."""
    s = Setting()
    s.tokens.revoke_all("user-1")
    first = s.tokens._core.epochs.get("user-1")
    assert first is not None
    assert first[0] == s.clock.wall_us()
    s.tokens.revoke_all("user-1")
    second = s.tokens._core.epochs.get("user-1")
    assert second is not None
    assert second[0] == first[0] + 1


def test_a_key_rotation_under_traffic_refuses_nobody() -> None:
    """Published, taken over, ended: at each second of an hour every token that has not expired is accepted."""
    clock = ManualClock()
    ring = KeyRing.generate("ES256")
    tokens = Tokens(
        keys=ring, secret=SECRET, issuer="https://id.example", audience="api", clock=clock
    )
    alive: list[tuple[int, str]] = []
    for second in range(0, 7200, 30):
        now = clock.wall_us()
        if second in (600, 6000):
            ring.reload(ring.rotated("ES256", now, ahead_s=1200))
        alive = [(end, token) for end, token in alive if end > now]
        alive.append((now + 900 * SECOND_US, tokens.mint("user-1")))
        for _, token in alive:
            tokens.verify(token)
        clock.advance(30 * SECOND_US)
    assert len({jws.read_header(t.split(".")[0].encode())["kid"] for _, t in alive}) >= 1
    assert len(ring.keys) == 2


def test_a_ring_that_changes_under_threads_refuses_nobody() -> None:
    """Four threads issue and verify, from memory and anew, while new keys take over under them."""
    clock = ManualClock()
    ring = KeyRing.generate("ES256")
    tokens = Tokens(
        keys=ring, secret=SECRET, issuer="https://id.example", audience="api", clock=clock
    )
    over = threading.Event()

    def traffic(number: int) -> int:
        if number == 0:
            for turn in range(60):
                ring.reload((*ring.keys, Key.generate("ES256", not_before_us=turn + 1)))
            over.set()
            return 0
        verified = 0
        while not over.is_set() or not verified:
            token = tokens.mint("user-1")
            assert tokens.verify(token).subject == tokens.verify(token).subject == "user-1"
            verified += 1
        return verified

    assert all(in_threads(4, traffic)[1:])
    assert len(ring.keys) == 61


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"claims": {"iss": "x"}}, "registered"), ({"claims": {"exp": 1}}, "registered"),
        ({"scopes": ["a b"]}, "words"), ({"scopes": [""]}, "words"), ({"roles": "admin"}, "list"),
        ({"claims": {"x": "y" * 3000}}, "fit into"),
    ],
)  # fmt: skip
def test_grants_that_make_no_sense_are_refused(arguments: dict[str, Any], word: str) -> None:
    """`roles="admin"` would be five roles of a letter each."""
    with pytest.raises(InvalidArgument, match=word):
        Setting().tokens.issue("user-1", **arguments)


@pytest.mark.parametrize("subject", ["", "x" * 1025, "\ud800", 5])
def test_subjects_that_tokens_cannot_carry_are_refused(subject: Any) -> None:
    """When issued, not when verified."""
    with pytest.raises(InvalidArgument):
        Setting().tokens.issue(subject)


@pytest.mark.parametrize(
    "options",
    [
        {"access": 0.5}, {"access": 90_000}, {"idle": 60}, {"absolute": 86_400}, {"grace": 61}, {"grace": -1},
        {"max_sessions": 0}, {"max_sessions": 201}, {"check": "always"}, {"epoch_ttl": 301}, {"max_stale": 0},
    ],
)  # fmt: skip
def test_policies_are_checked_when_built(options: dict[str, Any]) -> None:
    """Each names its rule."""
    with pytest.raises(InvalidArgument):
        TokenPolicy(**options)


def test_without_a_store_there_are_access_tokens_only() -> None:
    """And whoever wants more is told how."""
    tokens = Tokens(keys=RING, secret=SECRET, issuer="i", audience=["a", "b"])
    assert tokens.verify(tokens.mint("user-1", roles=["r"])).roles == {"r"}
    with pytest.raises(InvalidArgument, match="store"):
        tokens.issue("user-1")
    with pytest.raises(InvalidArgument, match="store"):
        Tokens(
            keys=RING, secret=SECRET, issuer="i", audience="a", policy=TokenPolicy(check="session")
        )


def test_no_token_shows_in_repr_or_pickle() -> None:
    """Not of a pair, not of the tokens, not in an event or an error."""
    s = Setting()
    pair = s.tokens.issue("user-1")
    s.tokens.refresh(pair.refresh_token, client=Client(address="::1"))
    s.tokens.refresh(pair.refresh_token)
    shown = "".join(map(repr, (pair, s.tokens, s.tokens.verify(pair.access_token), *s.told)))
    for token in (pair.access_token, pair.refresh_token):
        assert token not in shown
        assert token.split(".")[2] not in shown
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            way(pair)
    principal = s.tokens.verify(pair.access_token)
    assert pickle.loads(pickle.dumps(principal)).claims == principal.claims
    with pytest.raises(AttributeError):
        principal.claims = {}


class Rotations(RuleBasedStateMachine):
    """A user's sessions against the specification's oracle: any token, at any time, in any order."""

    held: Bundle[tuple[str, int, str]] = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.s = Setting(
            policy=TokenPolicy(access=1, grace=10, idle=100, absolute=300, max_sessions=200)
        )
        self.oracle = Oracle(10 * SECOND_US, 100 * SECOND_US, 300 * SECOND_US)
        self.bytes: dict[tuple[str, int, int], str] = {}

    @rule(target=held)
    def login(self) -> tuple[str, int, str]:
        """Begin a session."""
        pair = self.s.tokens.issue("user-1")
        self.oracle.login(pair.session_id, self.s.clock.wall_us())
        return pair.session_id, 1, pair.refresh_token

    @rule(target=held, token=held)
    def refresh(self, token: tuple[str, int, str]) -> Any:
        """Present any token that was ever handed out."""
        sid, generation, text = token
        expected = self.oracle.refresh(sid, generation, self.s.clock.wall_us())
        pair, said = None, ""
        try:
            pair = self.s.tokens.refresh(text)
        except TokenReused:
            assert expected == "REUSE"
            return multiple()
        except SessionEnded as error:
            said = error.reason.upper()
        if pair is None:
            assert said == expected
            return multiple()
        assert expected in ("ROTATED", "REPLAY")
        state = (sid, generation + 1, self.oracle.families[sid].rotated)
        assert self.bytes.setdefault(state, pair.refresh_token) == pair.refresh_token
        return sid, generation + 1, pair.refresh_token

    @rule(us=st.sampled_from([1, 1000, 9_999_999, 10_000_000, 10_000_001, 50_000_000, 99_999_999]))
    def wait(self, us: int) -> None:
        """Let time pass."""
        self.s.clock.advance(us)

    @rule()
    def bump(self) -> None:
        """End them all."""
        live = self.oracle.live(self.s.clock.wall_us())
        assert self.s.tokens.revoke_all("user-1") >= len(live)
        self.oracle.families.clear()

    @invariant()
    def the_list_is_right(self) -> None:
        """What is listed is what lives."""
        listed = {one.id for one in self.s.tokens.sessions("user-1")}
        assert listed == self.oracle.live(self.s.clock.wall_us())


TestRotations: Callable[..., Any] = Rotations.TestCase
Rotations.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_every_token_error_is_a_401() -> None:
    """And carries a challenge."""
    found = [TokenError]
    for one in found:
        found.extend(one.__subclasses__())
    assert len(found) >= 8
    assert {one.status for one in found} == {401}


def test_a_key_that_left_the_ring_is_refused_at_once_by_tokens() -> None:
    """Even for tokens that were verified before."""
    ring = KeyRing([RING.keys[0]])
    tokens = Tokens(keys=ring, secret=SECRET, issuer="i", audience="a")
    token = tokens.mint("user-1")
    tokens.verify(token)
    ring.reload([Key.generate("EdDSA")])
    with pytest.raises(InvalidToken):
        tokens.verify(token)
