"""Rotation while the store fails: nobody loses a session to it, and nobody gains one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backendkit.core.errors import StoreError
from backendkit.stores import connect
from backendkit.tokens import SessionEnded, TokenReused, TokenRevoked, Tokens, events
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from tests.ground.faults import Faults
from tests.ground.proxy import FaultProxy
from tests.ground.single import Single
from tests.ground.waiting import eventually

KEYS, SECRET = KeyRing.generate("ES256"), SecretRing.generate()


@pytest.fixture
def proxy(redis_single: Single) -> Iterator[FaultProxy]:
    """What stands between the tokens and their store."""
    with FaultProxy(redis_single.server.address) as between:
        yield between


@pytest.fixture
def through(proxy: FaultProxy, namespace: str) -> Iterator[Callable[..., Tokens]]:
    """Make tokens whose store is behind the proxy."""
    stores: list[Any] = []

    def made(**options: Any) -> Tokens:
        host, port = proxy.address
        store = connect(f"redis://{host}:{port}", timeout=2, connect_timeout=2)
        stores.append(store)
        return Tokens(
            keys=KEYS, secret=SECRET, issuer="https://id.example", audience="api", store=store,
            namespace=namespace[:-1], **options,
        )  # fmt: skip

    yield made
    for store in stores:
        store.close()


def again(refresh: Callable[[], Any]) -> Any:
    """Do as a client does that was told 503."""
    found: list[Any] = []

    def worked() -> bool:
        try:
            found.append(refresh())
        except StoreError:
            return False
        return True

    eventually(worked, "the store answers again")
    return found[0]


def test_killed_between_script_and_answer(
    through: Callable[..., Tokens], proxy: FaultProxy
) -> None:
    """The script has run, its answer is lost: 503, and the same token gives the successor that the script made."""
    tokens = through(policy=TokenPolicy(grace=60))
    told: list[Any] = []
    tokens.hooks.add(told.append, events.SessionRotated, events.RefreshReplayed)
    first = tokens.refresh(tokens.issue("user-1").refresh_token)
    told.clear()
    with proxy.injected(Faults(sever_after=1)), pytest.raises(StoreError) as caught:
        tokens.refresh(first.refresh_token)
    assert caught.value.status == 503
    second = again(lambda: tokens.refresh(first.refresh_token))
    assert [type(event) for event in told] == [events.RefreshReplayed]
    assert tokens.sessions("user-1")[0].refreshes == 2
    third = tokens.refresh(second.refresh_token)
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh_token)
    with pytest.raises(SessionEnded):
        tokens.refresh(third.refresh_token)


def test_an_answer_that_is_lost_from_the_asynchronous_face(
    through: Callable[..., Tokens], proxy: FaultProxy
) -> None:
    """A lane that is cut in the middle of two hundred refreshes: each is told 503, and all agree afterwards."""
    tokens = through(policy=TokenPolicy(grace=60))

    async def crowd() -> set[str]:
        pair = await tokens.aio.refresh((await tokens.aio.issue("user-1")).refresh_token)
        with proxy.injected(Faults(sever_after=1)):
            answers = await asyncio.gather(
                *(tokens.aio.refresh(pair.refresh_token) for _ in range(50)), return_exceptions=True
            )
        assert any(isinstance(answer, StoreError) for answer in answers)
        found = {a.refresh_token for a in answers if not isinstance(a, BaseException)}
        for _ in range(400):
            try:
                found.add((await tokens.aio.refresh(pair.refresh_token)).refresh_token)
                break
            except StoreError:
                await asyncio.sleep(0.05)
        assert (await tokens.aio.sessions("user-1"))[0].refreshes == 2
        await tokens.store.aio.close()  # type: ignore[union-attr]
        return found

    assert len(asyncio.run(crowd())) == 1


def test_a_store_that_is_unreachable_ends_no_session(
    through: Callable[..., Tokens], proxy: FaultProxy
) -> None:
    """Before the script as after it: 503, never 401; and the token works as if nothing had been."""
    tokens = through()
    first = tokens.issue("user-1")
    with proxy.injected(Faults(refuse=True)):
        for _ in range(3):
            with pytest.raises(StoreError) as caught:
                tokens.refresh(first.refresh_token)
            assert caught.value.status == 503
        with pytest.raises(StoreError):
            tokens.revoke_all("user-1")
    second = again(lambda: tokens.refresh(first.refresh_token))
    assert tokens.refresh(second.refresh_token).session_id == first.session_id


@pytest.mark.parametrize("mode", ["epoch", "session"])
def test_closed_or_open_while_the_store_is_down(
    through: Callable[..., Tokens], proxy: FaultProxy, mode: Any
) -> None:
    """Closed: the store's error. Open: what was known of a user before goes on for `max_stale`, and no longer."""
    closed = through(policy=TokenPolicy(check=mode, epoch_ttl=0))
    opened = through(policy=TokenPolicy(check=mode, epoch_ttl=0, max_stale=3_600))
    pair = closed.issue("user-1")
    stranger = closed.issue("user-2")
    for tokens in (closed, opened):
        tokens.verify(pair.access_token)
    dead = opened.issue("user-3")
    opened.revoke_all("user-3")
    with proxy.injected(Faults(refuse=True)):
        with pytest.raises(StoreError):
            closed.verify(pair.access_token)
        assert opened.verify(pair.access_token).subject == "user-1"
        with pytest.raises(StoreError):
            opened.verify(stranger.access_token)
        with pytest.raises(TokenRevoked):
            opened.verify(dead.access_token)
