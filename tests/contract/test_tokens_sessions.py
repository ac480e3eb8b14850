"""Sessions and rotation on every kind of store: one successor, whoever asks, however often, in whatever order."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.keys import KeySpace
from backendkit.core.operation import Operation
from backendkit.core.store import Store
from backendkit.stores import MemoryStore, connect
from backendkit.tokens import events
from backendkit.tokens.decide import record, rotation
from backendkit.tokens.decide.session import NONE, digest_of
from backendkit.tokens.errors import SessionEnded, TokenReused, TokenRevoked
from backendkit.tokens.face import Tokens
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.principal import Client
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from tests.ground.loops import in_fork, in_threads

KINDS = ["memory", "single", "cluster"]
RINGS = {alg: KeyRing.generate(alg) for alg in ("HS256", "RS256", "PS256", "ES256", "EdDSA")}
SECRET = SecretRing.generate()


@pytest.fixture
def clock() -> ManualClock:
    """What stores and tokens of a test take for now."""
    return ManualClock()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store whose operations differ."""
    return str(request.param)


@pytest.fixture
def opened(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Callable[..., Store]]:
    """Open stores of a kind on the manual clock; they close with the test."""
    stores: list[Store] = []

    def one(kind: str, **options: Any) -> Store:
        if kind == "memory":
            store: Store = MemoryStore(clock=clock)
        else:
            url = request.getfixturevalue(f"redis_{kind}").url
            store = connect(
                url, clock=clock, timeout=10, connect_timeout=10, now=clock.wall_us, **options
            )
        stores.append(store)
        return store

    yield one
    for store in stores:
        store.close()


def make(
    store: Store, namespace: str, alg: str = "EdDSA", **options: Any
) -> tuple[Tokens, list[Any]]:
    """Return tokens over a store, and the list that their events go to."""
    given_options: dict[str, Any] = {"keys": RINGS[alg], "secret": SECRET, **options}
    tokens = Tokens(
        issuer="https://id.example",
        audience="api",
        store=store,
        namespace=namespace[:-1],
        **given_options,
    )
    told: list[Any] = []
    tokens.hooks.add(told.append)
    return tokens, told


@pytest.mark.parametrize("alg", RINGS)
def test_two_hundred_tasks_get_one_successor(
    kind: str, opened: Any, namespace: str, alg: str
) -> None:
    """One ROTATED, 199 REPLAY, one refresh token byte for byte, with every kind of access key."""
    tokens, told = make(opened(kind), namespace, alg)
    first = tokens.issue("user-1")

    async def all_at_once() -> list[Any]:
        pairs = await asyncio.gather(*(tokens.aio.refresh(first.refresh_token) for _ in range(200)))
        await tokens.store.aio.close()  # type: ignore[union-attr]
        return pairs

    pairs = asyncio.run(all_at_once())
    assert len({pair.refresh_token for pair in pairs}) == 1
    counted = Counter(type(event) for event in told)
    assert counted[events.SessionRotated] == 1
    assert counted[events.RefreshReplayed] == 199
    assert {tokens.peek(pair.access_token).session_id for pair in pairs} == {first.session_id}


def test_sixteen_threads_get_one_successor(kind: str, opened: Any, namespace: str) -> None:
    """From threads as from tasks."""
    tokens, told = make(opened(kind), namespace)
    first = tokens.issue("user-1")
    pairs = in_threads(16, lambda _: tokens.refresh(first.refresh_token))
    assert len({pair.refresh_token for pair in pairs}) == 1
    assert Counter(type(e) for e in told)[events.SessionRotated] == 1


def test_two_processes_get_one_successor(opened: Any, namespace: str) -> None:
    """Derived, not stored: another process makes the same bytes of the same state."""
    tokens, _ = make(opened("single"), namespace)
    first = tokens.issue("user-1")
    ours = tokens.refresh(first.refresh_token).refresh_token
    theirs = in_fork(lambda: tokens.refresh(first.refresh_token).refresh_token)
    assert ours == theirs


def test_equal_bytes_across_a_change_of_keys_and_secrets(
    kind: str, opened: Any, namespace: str
) -> None:
    """A tab that comes late finds another active key and another active secret, and the same refresh token."""
    store = opened(kind)
    tokens, _ = make(store, namespace, "ES256")
    first = tokens.issue("user-1")
    successor = tokens.refresh(first.refresh_token)
    both = SecretRing({"s2": bytes(range(32)), "s1": b"\0" * 0 + bytes(range(9, 41))})
    old = SecretRing({"s1": bytes(range(9, 41))})
    again, _ = make(store, namespace, "RS256")
    assert again.refresh(first.refresh_token).refresh_token == successor.refresh_token
    one, _ = make(store, namespace, secret=old)
    two, _ = make(store, namespace, secret=both)
    begun = one.issue("user-2")
    child = one.refresh(begun.refresh_token)
    assert two.refresh(begun.refresh_token).refresh_token == child.refresh_token
    assert two.refresh(child.refresh_token).session_id == begun.session_id


def test_the_grace_time_is_exact(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """At ten seconds the parent still gives its successor; a millisecond later the family is dead."""
    tokens, told = make(opened(kind), namespace)
    first = tokens.issue("user-1")
    successor = tokens.refresh(first.refresh_token)
    clock.advance(10 * SECOND_US)
    assert tokens.refresh(first.refresh_token).refresh_token == successor.refresh_token
    clock.advance(1000)
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh_token)
    for dead in (successor, first):
        with pytest.raises(SessionEnded):
            tokens.refresh(dead.refresh_token)
    assert Counter(type(e) for e in told)[events.RefreshReused] == 1


def test_a_grandparent_kills_the_family_inside_the_grace_time(
    kind: str, opened: Any, namespace: str
) -> None:
    """Who holds a token two generations old is no second tab."""
    tokens, told = make(opened(kind), namespace)
    first = tokens.issue("user-1", client=Client(address="192.0.2.1"))
    second = tokens.refresh(first.refresh_token, client=Client(address="192.0.2.2"))
    third = tokens.refresh(second.refresh_token, client=Client(address="192.0.2.3"))
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh_token, client=Client(address="198.51.100.9"))
    with pytest.raises(SessionEnded):
        tokens.refresh(third.refresh_token)
    reused = [e for e in told if isinstance(e, events.RefreshReused)]
    assert [(e.first_address, e.address) for e in reused] == [("192.0.2.3", "198.51.100.9")]


def test_one_event_however_many_present_a_spent_token(
    kind: str, opened: Any, namespace: str
) -> None:
    """Sixteen threads with a grandparent: one of them revokes the family, the others find it gone."""
    tokens, told = make(opened(kind), namespace)
    first = tokens.issue("user-1")
    tokens.refresh(tokens.refresh(first.refresh_token).refresh_token)

    def attempt(_: int) -> type[Exception] | None:
        try:
            tokens.refresh(first.refresh_token)
        except (TokenReused, SessionEnded) as error:
            return type(error)
        return None

    assert Counter(in_threads(16, attempt)) == {TokenReused: 1, SessionEnded: 15}
    assert Counter(type(e) for e in told)[events.RefreshReused] == 1


def test_a_crowd_across_a_change_of_keys_and_secrets(
    kind: str, opened: Any, namespace: str
) -> None:
    """Half of the servers have the new keys already: all the same, one successor for everybody."""
    store = opened(kind)
    old = {"s1": bytes(range(9, 41))}
    before, told = make(store, namespace, "ES256", secret=SecretRing(old))
    secret = SecretRing({"s2": bytes(range(32)), **old})
    after, told_after = make(store, namespace, "PS256", secret=secret)
    # The new secret is known everywhere before anybody derives from it, as the old one is for as long as it is out.
    knows, told_knows = make(
        store, namespace, "ES256", secret=SecretRing({**old, "s2": bytes(range(32))})
    )
    first = before.issue("user-1")

    def refresh(number: int) -> str:
        tokens = (after, knows)[number % 2]
        return tokens.refresh(first.refresh_token).refresh_token

    assert len(set(in_threads(16, refresh))) == 1
    counted = Counter(type(e) for e in (*told, *told_after, *told_knows))
    assert counted[events.SessionRotated] == 1


def test_a_replay_tells_both_addresses(kind: str, opened: Any, namespace: str) -> None:
    """A thief at the heels of the user shows by where they come from."""
    tokens, told = make(opened(kind), namespace)
    first = tokens.issue("user-1", client=Client(address="192.0.2.1"))
    tokens.refresh(first.refresh_token, client=Client(address="192.0.2.2"))
    tokens.refresh(first.refresh_token, client=Client(address="198.51.100.9"))
    replay = next(e for e in told if isinstance(e, events.RefreshReplayed))
    assert (replay.first_address, replay.address) == ("192.0.2.2", "198.51.100.9")


def test_the_idle_and_the_absolute_end(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """Seven days unused, thirty days at the most, exact, however often it is refreshed."""
    tokens, _ = make(opened(kind), namespace)
    day = 86_400 * SECOND_US
    idle = tokens.issue("user-1")
    clock.advance(7 * day)
    with pytest.raises(SessionEnded, match="expired"):
        tokens.refresh(idle.refresh_token)
    pair = tokens.issue("user-1")
    for _ in range(4):
        clock.advance(7 * day - 1)
        pair = tokens.refresh(pair.refresh_token)
    clock.advance(2 * day)
    assert tokens.refresh(pair.refresh_token).refresh_expires_in == 0
    pair = tokens.issue("user-1")
    for _ in range(5):
        clock.advance(6 * day)
        if _ < 4:
            pair = tokens.refresh(pair.refresh_token)
    with pytest.raises(SessionEnded, match="expired"):
        tokens.refresh(pair.refresh_token)


def test_a_clock_that_is_set_back_prolongs_no_grace_time(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """An hour back: a thief who comes eleven seconds later is still too late."""
    tokens, _ = make(opened(kind), namespace)
    first = tokens.issue("user-1")
    tokens.refresh(first.refresh_token)
    clock.step_wall(-3600 * SECOND_US)
    tokens.refresh(first.refresh_token)
    clock.advance(11 * SECOND_US)
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh_token)


def test_application_clocks_that_differ_change_nothing(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """Only the store's clock decides about refresh tokens; an hour's difference between servers is nothing."""
    store = opened(kind)
    here, _ = make(store, namespace)
    there, _ = make(store, namespace, clock=ManualClock(clock.wall_us() - 3600 * SECOND_US))
    first = here.issue("user-1")
    second = there.refresh(first.refresh_token)
    assert here.refresh(first.refresh_token).refresh_token == second.refresh_token
    assert there.refresh(second.refresh_token).session_id == first.session_id


def test_a_session_list_stays_one_row(kind: str, opened: Any, namespace: str) -> None:
    """A thousand rotations, one session."""
    tokens, _ = make(opened(kind), namespace, "HS256")
    pair = tokens.issue(
        "user-1", client=Client(device="laptop", agent="A\nB\x00" * 99, address="::1")
    )
    for _ in range(1_000):
        pair = tokens.refresh(pair.refresh_token)
    [row] = tokens.sessions("user-1")
    assert (row.id, row.device, row.address) == (pair.session_id, "laptop", "::1")
    assert row.agent.isprintable()
    assert row.refreshes == 1_000


def test_the_bound_of_sessions_displaces_the_oldest(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """The newcomer gets in; the first one's next refresh says that it is over."""
    tokens, told = make(opened(kind), namespace, policy=TokenPolicy(max_sessions=3))
    pairs = []
    for number in range(5):
        pairs.append(tokens.issue("user-1", device=f"d{number}"))
        clock.advance(SECOND_US)
    other = tokens.issue("user-2")
    assert [s.device for s in tokens.sessions("user-1")] == ["d2", "d3", "d4"]
    assert [e.displaced for e in told if isinstance(e, events.SessionStarted)] == [0, 0, 0, 1, 1, 0]
    with pytest.raises(SessionEnded):
        tokens.refresh(pairs[0].refresh_token)
    tokens.refresh(other.refresh_token)


def test_an_epoch_bump_wins_in_either_order(kind: str, opened: Any, namespace: str) -> None:
    """Refresh, then bump; bump, then refresh: nothing that was handed out is alive at the end."""
    tokens, _ = make(opened(kind), namespace)
    first = tokens.issue("user-1")
    second = tokens.refresh(first.refresh_token)
    assert tokens.revoke_all("user-1") == 1
    for pair in (first, second):
        with pytest.raises(TokenRevoked):
            tokens.verify(pair.access_token)
        with pytest.raises(SessionEnded):
            tokens.refresh(pair.refresh_token)
    for _ in range(5):
        begun = tokens.issue("user-1")

        token = begun.refresh_token
        refreshed, _ = in_threads(2, partial(_either, tokens, token))
        if not isinstance(refreshed, Exception):
            with pytest.raises(TokenRevoked):
                tokens.verify(refreshed.access_token)
            with pytest.raises(SessionEnded):
                tokens.refresh(refreshed.refresh_token)
    assert tokens.sessions("user-1") == []


def _either(tokens: Tokens, token: str, number: int) -> Any:
    try:
        return tokens.refresh(token) if number == 0 else tokens.revoke_all("user-1")
    except SessionEnded as error:
        return error


class Interrupted(ManualClock):
    """Lets something happen the moment somebody looks at this clock."""

    meanwhile: Callable[[], object] | None = None

    def mono_us(self) -> int:
        """Look, after what is to happen."""
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            in_threads(1, lambda _: happens())
        return super().mono_us()


@pytest.mark.parametrize("looks", range(2))
def test_an_old_epoch_is_never_remembered_over_a_new_one(
    kind: str, opened: Any, namespace: str, looks: int
) -> None:
    """A refresh that overlaps a bump may learn of the epoch before, and late: what `revoke_all` said stays true."""
    clock = Interrupted()
    tokens, _ = make(opened(kind), namespace, clock=clock)
    pair = tokens.issue("user-1")

    def later() -> None:
        nonlocal looks
        looks -= 1
        clock.meanwhile = later if looks >= 0 else (lambda: tokens.revoke_all("user-1"))

    later()
    try:
        pair = tokens.refresh(pair.refresh_token)
    except SessionEnded:
        assert clock.meanwhile is None
    while clock.meanwhile is not None:
        clock.mono_us()
    with pytest.raises(TokenRevoked):
        tokens.verify(pair.access_token)


def test_a_session_past_its_end_does_not_live(
    kind: str, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """In `session` mode an access token does not outlive the session, though its own time is not over."""
    policy = TokenPolicy(check="session", access=600, idle=1000, absolute=1000)
    tokens, _ = make(opened(kind), namespace, policy=policy)
    first = tokens.issue("user-1")
    clock.advance(900 * SECOND_US)
    pair = tokens.refresh(first.refresh_token)
    clock.advance(100 * SECOND_US - 1000)
    assert tokens.verify(pair.access_token).subject == "user-1"
    clock.advance(1000)
    with pytest.raises(TokenRevoked):
        tokens.verify(pair.access_token)


def test_revoking_one_session_leaves_the_others(kind: str, opened: Any, namespace: str) -> None:
    """Log out here, stay logged in there; in `session` mode the access token dies with it."""
    tokens, _ = make(opened(kind), namespace, policy=TokenPolicy(check="session"))
    here, there = tokens.issue("user-1"), tokens.issue("user-1")
    assert tokens.revoke(here.session_id)
    assert not tokens.revoke(here.session_id)
    assert not tokens.revoke("../../etc")
    with pytest.raises(TokenRevoked):
        tokens.verify(here.access_token)
    assert tokens.verify(there.access_token).subject == "user-1"


def test_users_with_the_same_tag_share_nothing(kind: str, opened: Any, namespace: str) -> None:
    """Eight characters place a record; the whole digest tells users apart."""
    store = opened(kind)
    key = KeySpace("tokens", version=1, kind="user", namespace=namespace[:-1]).key("sametags")

    def begin(digest: bytes, sid: bytes) -> None:
        new = record.Login(
            sid, digest, b"s1", NONE, b"", b"", b"", b"{}", 10**12, 10**11, 2, 10**12
        )
        store.run(record.login(key, new))

    for number in range(3):
        begin(b"sametagsA", b"a%d" % number)
    begin(b"sametagsB", b"b0")
    assert store.run(record.end_all(key, b"sametagsA", 10**9))[1] == 2
    assert store.run(record.look(key, b"b0", b"sametagsB", 10**11)) == (0, True)
    assert store.run(record.look(key, b"b0", b"sametagsA", 10**11))[1] is False
    foreign = rotation.Presented(
        b"b0", b"sametagsA", 1, 0, NONE, b"", b"", b"s1", 10**7, 10**11, 10**12
    )
    assert store.run(rotation.rotate(key, foreign)).outcome == rotation.GONE
    assert [row.sid for row in store.run(record.sessions(key, b"sametagsB", 10**11))] == [b"b0"]


def test_a_session_fits_into_four_hundred_bytes(
    opened: Any, namespace: str, redis_single: Any
) -> None:
    """Device, agent and address at their longest included."""
    tokens, _ = make(opened("single"), namespace, loader=lambda _: None)
    long = "\u00e4" * 500
    pair = tokens.issue("user-1", client=Client(device=long, agent=long, address=long))
    key = KeySpace("tokens", version=1, kind="user", namespace=namespace[:-1]).key(
        pair.session_id[:8]
    )
    assert 0 < redis_single.server.command("HSTRLEN", key, f"s:{pair.session_id}") < 400


class Rewound:
    """Takes a copy of a user's record and puts it back: what a store that lost its last writes does."""

    def __init__(self, store: Store, key: bytes, server: Any) -> None:
        self._store, self._key, self._server = store, key, server
        if server is None:
            shard: Any = store._shards[hash(key) & 255]  # type: ignore[attr-defined]
            state, *rest = shard[key]
            self._copy: Any = (dict(state), *rest)
        else:
            self._copy = server.command("DUMP", key)

    def put_back(self) -> None:
        """Undo all writes since."""
        if self._server is None:
            state, *rest = self._copy
            self._store._shards[hash(self._key) & 255][self._key] = (dict(state), *rest)  # type: ignore[attr-defined]
        else:
            self._server.command("RESTORE", self._key, "0", self._copy, "REPLACE")


@pytest.mark.parametrize("kind", ["memory", "single"])
def test_a_store_rolled_back_one_generation_goes_forward(
    kind: str, opened: Any, namespace: str, redis_single: Any
) -> None:
    """The token is signed, so the store is what is wrong: one event, no lock-out. Two generations: closed."""
    store = opened(kind)
    tokens, told = make(store, namespace)
    first = tokens.issue("user-1")
    key = KeySpace("tokens", version=1, kind="user", namespace=namespace[:-1]).key(
        first.session_id[:8]
    )
    server = None if kind == "memory" else redis_single.server
    before = Rewound(store, key, server)
    second = tokens.refresh(first.refresh_token)
    before.put_back()
    third = tokens.refresh(second.refresh_token)
    assert [e for e in told if isinstance(e, events.StoreRolledBack)]
    assert tokens.sessions("user-1")[0].refreshes == 2
    fourth = tokens.refresh(third.refresh_token)
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh_token)
    before.put_back()
    with pytest.raises(SessionEnded, match="gone"):
        tokens.refresh(fourth.refresh_token)
    with pytest.raises(SessionEnded, match="gone"):
        tokens.refresh(first.refresh_token)


@pytest.mark.parametrize("kind", ["memory", "single"])
def test_a_session_from_before_the_epoch_is_dead(
    kind: str, opened: Any, namespace: str, redis_single: Any
) -> None:
    """Should a store ever bring a session back that an epoch had ended: the script sees it, too."""
    store = opened(kind)
    tokens, _ = make(store, namespace, policy=TokenPolicy(check="session"))
    pair = tokens.issue("user-1")
    key = KeySpace("tokens", version=1, kind="user", namespace=namespace[:-1]).key(
        pair.session_id[:8]
    )
    field = b"e:" + digest_of("user-1")
    if kind == "memory":
        store._shards[hash(key) & 255][key][0][field] = 2**52
    else:
        redis_single.server.command("HSET", key, field, str(2**52))
    assert tokens.sessions("user-1") == []
    look = record.look(key, pair.session_id.encode(), digest_of("user-1"), 10**12)
    assert store.run(look) == (2**52, False)
    with pytest.raises(TokenRevoked):
        tokens.verify(pair.access_token)
    with pytest.raises(SessionEnded, match="gone"):
        tokens.refresh(pair.refresh_token)


def test_a_store_that_restarts_empty_is_closed(own_redis: Any, namespace: str) -> None:
    """Missing state means: log in again. Never: let them in."""
    single = own_redis()
    store = connect(single.url, timeout=5, connect_timeout=5)
    tokens, _ = make(store, namespace)
    pair = tokens.issue("user-1")
    single.server.restart()
    with pytest.raises(SessionEnded, match="gone"):
        tokens.refresh(pair.refresh_token)
    store.close()


# Weighted towards one session that rotates: what a script decides shows where steps meet.
_STEP = st.tuples(
    st.sampled_from(["login", *["rotate"] * 5, "end", "end_all", "look", "list", "mark"]),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([1, 1, 1, 2, 2, 2, 3, 3, 4, 6]),
    st.sampled_from([0, 0, 1, 10, 11, 60, 100, 301, -5, -100]),
    st.sampled_from([NONE, NONE, NONE, b"bound"]),
)


def _operation(step: Any, keys: tuple[bytes, bytes], now: int) -> Operation[Any]:
    what, who, generation, _, bind = step
    stranger = generation == 6  # somebody else's name on the session
    key, digest, sid = keys[0], b"digest%d" % (who % 2 + stranger), b"sid%d" % who
    ttl = 10**12
    if what == "login":
        bound = bind if who == 2 else NONE
        new = record.Login(
            sid,
            digest,
            b"s1",
            bound,
            b"d",
            b"agent",
            b"addr",
            b'{"a":1}',
            300_000_000,
            100_000_000,
            1 + who,
            ttl,
        )
        return record.login(key, new)
    if what == "rotate":
        presented = rotation.Presented(
            sid,
            digest,
            generation,
            now - 50_000_000,
            bind,
            b"",
            b"x" * (generation % 2),
            b"s2",
            10_000_000,
            100_000_000,
            ttl,
        )
        return rotation.rotate(key, presented)
    if what == "end":
        return record.end(key, sid, ttl)
    if what == "end_all":
        return record.end_all(key, digest, ttl)
    if what == "look":
        return record.look(key, sid, digest, 100_000_000)
    return (
        record.sessions(key, digest, 100_000_000) if what == "list" else record.mark(keys[1], ttl)
    )


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(_STEP, max_size=25), number=st.uuids())
def test_both_spellings_answer_alike(
    history: Any, number: Any, opened: Any, clock: ManualClock, namespace: str
) -> None:
    """Random histories under a clock that steps back and forth: fold and Lua give the same replies."""
    global_stores = opened.__dict__.setdefault("pair", None) or (opened("memory"), opened("single"))
    opened.__dict__["pair"] = global_stores
    keys = (f"{namespace}{{{number}}}".encode(), f"{namespace}{{{number}}}m".encode())
    for step in history:
        if step[3] >= 0:
            clock.advance(step[3] * SECOND_US)
        else:
            clock.step_wall(step[3] * SECOND_US)
        replies = [store.run(_operation(step, keys, clock.wall_us())) for store in global_stores]
        assert replies[0] == replies[1], step
