"""The model M1 to M8 holds under faults, and each safeguard is needed: without it the machine finds a stale value."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from backendkit.cache import asks, flow, source
from backendkit.cache.channel import Ear
from backendkit.cache.core import Core, Names
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.entry import HEAD
from backendkit.cache.decide.tier import _LEASE
from backendkit.cache.local import Local
from backendkit.cache.record import Record, Ticket, Watch
from backendkit.cache.scope import Scope
from backendkit.cache.upkeep import Busy
from backendkit.core.flights import Flights
from backendkit.core.operation import DELETE, KEEP, Change, Script
from tests.unit.cache.machine import PATIENT, Fleet, LateFleet, Options
from tests.unit.cache.scenarios import scenarios

CHECKED = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class QueueFleet(Fleet):
    """Removals that cannot be sent wait in a queue."""

    options = Options(on_unreachable="queue")


class PatientFleet(Fleet):
    """Nothing stale serves but where a loader fails."""

    options = Options(policy=PATIENT)


class RevivingFleet(Fleet):
    """Fail-safe may serve what nobody could hear of."""

    options = Options(revives=True)


class AskingFleet(Fleet):
    """Loads ask for a lease at once, and look at nothing before."""

    options = Options(looks=False)


def test_the_model_holds() -> None:
    """Three processes, and all that may befall them."""
    run_state_machine_as_test(Fleet, settings=CHECKED)


# Safeguards: each of these takes one out


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


def ignores_tags(patch: pytest.MonkeyPatch) -> None:
    """An entry whose tags have other versions is none."""
    patch.setattr("backendkit.cache.core.agrees", lambda entry, scope: entry.namespace == scope.namespace.token)  # fmt: skip


def leaves_the_lease_at_an_expiry(patch: pytest.MonkeyPatch) -> None:
    """So does an expiry."""
    _keeps_the_lease(patch, tier.EXPIRE)


def leaves_the_lease_at_a_set(patch: pytest.MonkeyPatch) -> None:
    """So does a set."""
    _keeps_the_lease(patch, tier.PUT)


def _keeps_the_lease(patch: pytest.MonkeyPatch, script: Script) -> None:
    fold: Any = script.fold

    def kept(states: Any, now: int, args: Any) -> Change:
        writes, reply = fold(states, now, args)
        return Change((writes[0], KEEP), reply)

    patch.setattr(script, "fold", kept)


def stores_under_any_lease(patch: pytest.MonkeyPatch) -> None:
    """The lease that stands must be the writer's own."""
    _holds(patch, lambda held, token, now: held is not None and now < _LEASE.unpack_from(held)[0])


def _holds(patch: pytest.MonkeyPatch, holds: Callable[[Any, bytes, int], bool]) -> None:
    patch.setattr(tier, "_holds", holds)


def renews_no_lease(patch: pytest.MonkeyPatch) -> None:
    """A lease is renewed while its load runs."""
    patch.setattr(Busy, "renew", lambda self: None)


def finds_nobody_busy(patch: pytest.MonkeyPatch) -> None:
    """Whoever finds the lease taken waits."""
    fold: Any = tier.READ.fold

    def free(states: Any, now: int, args: Any) -> Change:
        changed: Change = fold((states[0], None), now, args)
        return changed

    patch.setattr(tier.READ, "fold", free)


def publishes_nothing(script: Script) -> Callable[[pytest.MonkeyPatch], None]:
    """What removes something tells everybody."""

    def silent(patch: pytest.MonkeyPatch) -> None:
        fold: Any = script.fold

        def still(states: Any, now: int, args: Any) -> Change:
            writes, reply = fold(states, now, args)
            return Change(writes, [*reply[:-1], 0])

        patch.setattr(script, "fold", still)

    silent.__name__ = f"publishes_no_{script.name.removeprefix('cache.')}"
    return silent


def revives_versions(patch: pytest.MonkeyPatch) -> None:
    """A version that is lost is made anew, and is another."""
    patch.setattr(Core, "draw", lambda self: b"0123456789abcdef")


def learns_versions_without_a_mark(patch: pytest.MonkeyPatch) -> None:
    """Versions that were read before a message was handled are not taken for those of now."""
    learn = Local.learn

    def always(self: Local, mark: object, *args: Any) -> Scope | None:
        return learn(self, self.mark(), *args)

    patch.setattr(Local, "learn", always)


def _fills_without_a_ticket(patch: pytest.MonkeyPatch, where: str) -> None:
    fill = Local.fill

    def always(self: Local, key: str, ticket: Ticket, record: Record) -> bool:
        caller = sys._getframe(1).f_code.co_name
        return fill(self, key, Ticket() if caller == where else ticket, record)

    patch.setattr(Local, "fill", always)


def fills_by(where: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Each way into the first tier has a ticket."""

    def without(patch: pytest.MonkeyPatch) -> None:
        _fills_without_a_ticket(patch, where)

    without.__name__ = f"fills_without_a_ticket_in_{where}"
    return without


def sets_without_a_ticket(patch: pytest.MonkeyPatch) -> None:
    """So does a set: another's may have come between."""
    replace = Local.replace

    def always(self: Local, key: str, ticket: Ticket, record: Record) -> None:
        replace(self, key, Ticket(), record)

    patch.setattr(Local, "replace", always)


def hears_nothing_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """A removal that was given up is news to its own process."""
    patch.setattr(Names, "is_done", lambda self, message: message.origin == self.origin)


def repeats_nothing(patch: pytest.MonkeyPatch) -> None:
    """Another server is told of recent removals."""
    patch.setattr(Busy, "note", lambda self, operation: None)


def keeps_what_it_read_before_a_replay(patch: pytest.MonkeyPatch) -> None:
    """Who repeats removals forgets what it has read of the other server before."""
    replay = Busy.replay

    def keeping(self: Busy, core: Core) -> None:
        with patch.context() as inner:
            inner.setattr(Local, "flush", lambda self: None)
            replay(self, core)

    patch.setattr(Busy, "replay", keeping)


def trusts_what_waits(patch: pytest.MonkeyPatch) -> None:
    """What waits in the queue is not believed to be removed."""
    patch.setattr(Busy, "trusts", lambda self, key: True)


def forgets_the_overflow(patch: pytest.MonkeyPatch) -> None:
    """What the queue had no room for is cleared."""
    trusts = Busy.trusts

    def without(self: Busy, key: str) -> bool:
        self._overflows = 0
        return trusts(self, key)

    patch.setattr(Busy, "trusts", without)


def falls_back_on_what_is_detached(patch: pytest.MonkeyPatch) -> None:
    """A load that fails falls back on nothing that was removed meanwhile."""

    def anyway(core: Core, key: str, ticket: Ticket, old: Record | None) -> Record | None:
        return old if core.usable(old) else None

    patch.setattr(source, "spare_of", anyway)
    patch.setattr(flow, "spare_of", anyway)


def revives_what_nobody_heard(patch: pytest.MonkeyPatch) -> None:
    """Where it is forbidden, nothing stale serves that may have been removed unheard."""
    patch.setattr(Local, "trusts", lambda self, record, now: True)


def outlives_its_versions(patch: pytest.MonkeyPatch) -> None:
    """An entry that was read under versions counts no longer than they do."""
    patch.setattr(Scope, "until", property(lambda self: math.inf))


def outlives_the_second_tier(patch: pytest.MonkeyPatch) -> None:
    """What is read late lives for what is left."""
    thawed = Core.thawed

    def longer(self: Core, call: Any, answer: Any, began: float, scope: Scope) -> Record | None:
        record = thawed(self, call, answer, began, scope)
        if record is not None and answer.outcome == tier.HIT:
            record.live(record.times._replace(fresh=began + 5), began + 5)
        return record

    patch.setattr(Core, "thawed", longer)


def takes_its_parents_first_tier(patch: pytest.MonkeyPatch) -> None:
    """A child begins without what its parent's thread kept up to date."""
    patch.setattr(Local, "after_fork_in_child", lambda self: None)
    patch.setattr(Busy, "after_fork_in_child", _connected)


def _connected(self: Busy) -> None:
    if not hasattr(self, "_queue"):
        _AFTER_FORK(self)


_AFTER_FORK = Busy.after_fork_in_child

SAFEGUARDS: list[tuple[Callable[[pytest.MonkeyPatch], None], type[Fleet]]] = [
    (stores_without_a_lease, Fleet),
    (leaves_the_lease, Fleet),
    (leaves_the_lease_at_an_expiry, Fleet),
    (leaves_the_lease_at_a_set, Fleet),
    (stores_under_any_lease, AskingFleet),
    (renews_no_lease, Fleet),
    (finds_nobody_busy, Fleet),
    *((publishes_nothing(script), Fleet) for script in (tier.INVALIDATE, tier.EXPIRE, tier.PUT, versions.BUMP)),
    (fills_without_a_ticket, Fleet),
    (fills_what_was_looked_at, Fleet),
    (looks_without_tags, Fleet),
    *((fills_by(where), AskingFleet) for where in ("_delivered", "hit")),
    (sets_without_a_ticket, Fleet),
    (fills_what_was_refused, Fleet),
    (learns_versions_without_a_mark, Fleet),
    (joins_detached_loads, Fleet),
    (joins_old_loads, Fleet),
    (trusts_for_ever, Fleet),
    (trusts_from_the_answer, Fleet),
    (keeps_the_first_tier_over_a_loss, Fleet),
    (forgets_that_versions_die, Fleet),
    (takes_any_namespace, Fleet),
    (ignores_tags, Fleet),
    (revives_versions, Fleet),
    (ignores_the_epoch_of_tags, LateFleet),
    (hears_nothing_of_its_own, Fleet),
    (repeats_nothing, Fleet),
    (keeps_what_it_read_before_a_replay, Fleet),
    (trusts_what_waits, QueueFleet),
    (forgets_the_overflow, QueueFleet),
    (falls_back_on_what_is_detached, PatientFleet),
    (revives_what_nobody_heard, Fleet),
    (outlives_its_versions, Fleet),
    (outlives_the_second_tier, AskingFleet),
    (takes_its_parents_first_tier, Fleet),
]  # fmt: skip


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


@pytest.mark.parametrize(
    ("fleet", "every"),
    [
        (Fleet, 1),
        (AskingFleet, 1),
        (LateFleet, 2),
        (QueueFleet, 4),
        (RevivingFleet, 4),
        (PatientFleet, 4),
    ],
)
def test_every_interleaving(fleet: type[Fleet], every: int) -> None:
    """Stopped at each step, interrupted by everything: what holds under faults holds here."""
    play(fleet, every)


def play(fleet: type[Fleet], every: int = 1) -> None:
    """Play all scenarios, each in a world of its own; those of one fault alone come first."""
    for scenario in sorted(scenarios(every), key=lambda each: isinstance(each, partial)):
        played = fleet()
        try:
            scenario(played)
        finally:
            played.teardown()
