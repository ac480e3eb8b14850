"""The model M1 to M8 holds under faults, and each safeguard is needed: without it the machine finds a stale value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from backendkit.cache import asks, source
from backendkit.cache.channel import Ear
from backendkit.cache.core import Core
from backendkit.cache.decide import tier
from backendkit.cache.decide.entry import HEAD
from backendkit.cache.local import Local
from backendkit.cache.record import Record, Ticket, Watch
from backendkit.cache.scope import Scope
from backendkit.core.flights import Flights
from backendkit.core.operation import DELETE, KEEP, Change
from tests.unit.cache.machine import Fleet, LateFleet
from tests.unit.cache.scenarios import scenarios

CHECKED = settings(
    max_examples=120,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("fleet", [Fleet, LateFleet])
def test_the_model_holds(fleet: type[Fleet]) -> None:
    """Three processes, delay, duplicates, lost connections, partitions, lost answers, eviction, passing time."""
    run_state_machine_as_test(fleet, settings=CHECKED)


def stores_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    """The fence of the second tier."""

    def fold(states: Any, now: int, args: Any) -> Change:
        entry = HEAD.pack(now, now + args[1], now + args[2]) + args[3]
        return Change(((entry, args[4] * 1000), KEEP), [now, 1])

    patch.setattr(tier.STORE, "fold", fold)


def leaves_the_lease(patch: pytest.MonkeyPatch) -> None:
    """An invalidation ends the lease."""
    patch.setattr(tier.INVALIDATE, "fold", lambda states, now, args: Change((DELETE, KEEP), [1, 1]))


def fills_without_a_ticket(patch: pytest.MonkeyPatch) -> None:
    """What is filled was asked for after the last invalidation heard of."""
    fill = Local.fill

    def always(self: Local, key: str, ticket: Ticket, record: Record) -> bool:
        return fill(self, key, Ticket(), record)

    patch.setattr(Local, "fill", always)


def fills_what_was_looked_at(patch: pytest.MonkeyPatch) -> None:
    """What a look has found is filled only if nothing was heard of it meanwhile."""
    fill_all = Local.fill_all

    def always(self: Local, watch: Watch, found: Any) -> None:
        fill_all(self, Watch(), found)

    patch.setattr(Local, "fill_all", always)


def looks_without_tags(patch: pytest.MonkeyPatch) -> None:
    """What a look has found has the tags' versions of now."""
    patch.setattr("backendkit.cache.core.agrees", lambda entry, scope: True)


def fills_what_was_refused(patch: pytest.MonkeyPatch) -> None:
    """What the second tier refuses the first does not keep."""
    ask_many = asks.ask_many

    async def accepted(*args: Any) -> list[Any]:
        return [answer or None for answer in await ask_many(*args)]

    patch.setattr(source, "ask_many", accepted)


def joins_detached_loads(patch: pytest.MonkeyPatch) -> None:
    """Who comes after an invalidation does not join a load that began before it."""
    patch.setattr(Flights, "detach", lambda self, key: None)
    patch.setattr(Flights, "detach_all", lambda self: None)


def joins_old_loads(patch: pytest.MonkeyPatch) -> None:
    """Who hears nothing does not join a load that began too long ago."""
    patch.setattr(Local, "part", lambda self, key: None)


def trusts_for_ever(patch: pytest.MonkeyPatch) -> None:
    """The first tier counts no longer than the last heartbeat says."""

    def trust(self: Ear, sent: float) -> None:
        assert self.core is not None
        self.core.local.l1.trusted_until = math.inf

    patch.setattr(Ear, "trust", trust)


def trusts_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The time counts from when a heartbeat was sent."""
    trust = Ear.trust

    def late(self: Ear, sent: float) -> None:
        assert self.core is not None
        trust(self, self.core.local.now())

    patch.setattr(Ear, "trust", late)


def keeps_the_first_tier_over_a_loss(patch: pytest.MonkeyPatch) -> None:
    """After a loss the first tier is emptied before it is trusted."""
    patch.setattr(Local, "flush", lambda self: None)


def forgets_that_versions_die(patch: pytest.MonkeyPatch) -> None:
    """A version that was replaced takes all that was loaded under it with it."""
    patch.setattr(Local, "_bury", lambda self, versions: None)


def takes_any_namespace(patch: pytest.MonkeyPatch) -> None:
    """An entry of another version is none."""
    patch.setattr("backendkit.cache.core.agrees", lambda entry, scope: True)
    fold: Any = tier.READ.fold

    def any_namespace(states: Any, now: int, args: Any) -> Change:
        if states[0] is not None:
            at = HEAD.size
            args = [*args[:2], states[0][at : at + 16], *args[3:]]
        changed: Change = fold(states, now, args)
        return changed

    patch.setattr(tier.READ, "fold", any_namespace)


def ignores_the_epoch_of_tags(patch: pytest.MonkeyPatch) -> None:
    """A tag that is named late was not invalidated during the load."""

    async def late(io: Any, core: Core, scope: Scope, tags: tuple[str, ...]) -> Scope | None:
        return await asks.scope_of(io, core, tags)

    patch.setattr(source, "late_scope", late)


SAFEGUARDS: list[tuple[Callable[[pytest.MonkeyPatch], None], type[Fleet]]] = [
    (stores_without_a_lease, Fleet),
    (leaves_the_lease, Fleet),
    (fills_without_a_ticket, Fleet),
    (fills_what_was_looked_at, Fleet),
    (looks_without_tags, Fleet),
    (fills_what_was_refused, Fleet),
    (joins_detached_loads, Fleet),
    (joins_old_loads, Fleet),
    (trusts_for_ever, Fleet),
    (trusts_from_the_answer, Fleet),
    (keeps_the_first_tier_over_a_loss, Fleet),
    (forgets_that_versions_die, Fleet),
    (takes_any_namespace, Fleet),
    (ignores_the_epoch_of_tags, LateFleet),
]


@pytest.mark.parametrize(
    ("take_out", "fleet"), SAFEGUARDS, ids=lambda each: getattr(each, "__name__", "")
)
def test_each_safeguard_is_needed(
    take_out: Callable[[pytest.MonkeyPatch], None],
    fleet: type[Fleet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Taken out by hand, it lets a stale value through."""
    take_out(monkeypatch)
    with pytest.raises(AssertionError):
        play(fleet)


@pytest.mark.parametrize("fleet", [Fleet, LateFleet])
def test_every_interleaving_of_a_read(fleet: type[Fleet]) -> None:
    """Stopped at each step, interrupted by everything: what holds under faults holds here."""
    play(fleet)


def play(fleet: type[Fleet]) -> None:
    """Play all scenarios, each in a world of its own."""
    for scenario in scenarios():
        played = fleet()
        try:
            scenario(played)
        finally:
            played.teardown()
