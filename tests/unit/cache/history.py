"""What has happened in a fleet, and what M1 to M8 promise of it: the oracle of the state machine.

Each value carries the step at which its load began; that of a `set` counts from when the server carried it out. Each
removal (an invalidation, by key, tag or namespace; an expiry; a set) is one `Removal`. A failover to an older state
undoes those it lost: nothing is promised of them until their process has repeated them, which makes them stand anew.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OWN = "M1: own, and returned"
HEARD = "M2: heard of"
BOUND = "M2: max_l1_staleness is over"


@dataclass(eq=False)
class Removal:
    """One removal.

    Attributes:
        began: the step at which it began; of a set: at which the server carried it out.
        keys: what it is about.
        kind: `key`, `soft` (an expiry), `version` (tags, or all) or `set`.
        owner: the number of its process.
        ran_at: seconds; None: the server has not carried it out, or a failover has undone it.
        ran_step: the step of that.
        returned_at: seconds at which its caller was told that it is done, or queued.
        lost: how often a failover has undone it.
        lost_at: seconds of the last time.
        about: what its message says.
    """

    began: float
    keys: tuple[str, ...]
    kind: str
    owner: int
    ran_at: float | None = None
    ran_step: float = 0
    returned_at: float | None = None
    lost: int = 0
    lost_at: float = 0.0
    about: bytes = b""


class Need(NamedTuple):
    """A removal that a read must respect, in which of its lives, and by which promise."""

    removal: Removal
    lost: int
    promise: str


class Moment(NamedTuple):
    """When something began: as a step, and in seconds."""

    step: float
    at: float


class Told(NamedTuple):
    """A caller was served what is stale, and the cache has said so."""

    step: float
    at: float
    reason: str
    blind: bool


@dataclass(eq=False)
class Known:
    """What one process must respect: removals, and which of their lives it knows."""

    own: dict[Removal, int] = field(default_factory=dict)
    heard: dict[Removal, int] = field(default_factory=dict)
    dropped: dict[Removal, int] = field(default_factory=dict)
    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    revives: bool = False
    """Whether its fail-safe may revive what nobody could hear of."""

    def hear(self, removal: Removal) -> None:
        """A message has come."""
        self.heard[removal] = removal.lost

    def learnt(self, key: str, *, soft: bool = True) -> list[Removal]:
        """Return the removals of a key that it has carried out or heard of."""
        return [
            removal
            for known in (self.own, self.heard)
            for removal, lost in known.items()
            if key in removal.keys and removal.lost == lost and (soft or removal.kind != "soft")
        ]


class History:
    """All removals, and the lives of values.

    Args:
        staleness: `max_l1_staleness`.
        throttle: how long a stale value serves once its loader has failed.
        longest: how long after its freshness a value may serve at all.
    """

    def __init__(self, staleness: float, throttle: float, longest: float) -> None:
        self.staleness = staleness
        self.throttle = throttle
        self.longest = longest
        self.step: float = 1
        self.removals: list[Removal] = []
        self.sets: dict[int, float] = {}
        self.fresh_until: dict[tuple[str, float], float] = {}
        self.changed: dict[str, float] = defaultdict(float)
        self.nones: dict[str, float] = defaultdict(float)

    def tick(self) -> float:
        """Begin the next step."""
        self.step += 1
        return self.step

    # Values

    def began(self, value: Any) -> float:
        """Return when the load of a value began, or its set was carried out."""
        if "set" in value:
            return self.sets[value["set"]]
        return float(value["began"])

    def ident(self, value: Any) -> tuple[str, float]:
        """Return what a value is known by."""
        return ("set", value["set"]) if "set" in value else ("load", value["began"])

    # Removals

    def remove(self, keys: tuple[str, ...], kind: str, owner: int) -> Removal:
        """Begin one."""
        removal = Removal(self.tick(), keys, kind, owner)
        self.removals.append(removal)
        for key in keys:
            self.changed[key] = removal.began
        return removal

    def run(self, removal: Removal, now: float) -> None:
        """The server has carried one out, perhaps again."""
        if removal.ran_at is None:
            removal.ran_at, removal.ran_step = now, self.tick()

    def undo(self, since: float, now: float) -> None:
        """A failover has undone what was carried out after a step."""
        for removal in self.removals:
            if removal.ran_at is not None and removal.ran_step > since:
                removal.ran_at = None
                removal.lost += 1
                removal.lost_at = now

    def needs(self, known: Known, key: str, now: float) -> list[Need]:
        """Return what a read of `key` that begins now must respect."""
        needs = [Need(r, r.lost, OWN) for r, lost in known.own.items() if r.lost == lost]
        needs += [Need(r, r.lost, HEARD) for r, lost in known.heard.items() if r.lost == lost]
        needs += [
            Need(removal, removal.lost, BOUND)
            for removal in self.removals
            if removal.ran_at is not None
            and now >= removal.ran_at + self.staleness
            and known.dropped.get(removal) != removal.lost
        ]
        return [need for need in needs if key in need.removal.keys]

    def check(
        self, known: Known, value: Any, needs: dict[str, list[Need]], since: Moment, now: float
    ) -> None:
        """Check what a read returned.

        Args:
            known: what its process must respect.
            value: returned.
            needs: of when the read began, of the one key that was asked for.
            since: when it began.
            now: seconds.
        """
        ((key, needed),) = needs.items()
        told = [
            each
            for each in known.told[key]
            if each.step >= since.step or (each.reason == "error" and now < each.at + self.throttle)
        ]
        if value is None:
            began = self.nones[key]
        else:
            assert value["key"] == key
            began = self.began(value)
        for removal, lost, promise in needed:
            if began > removal.began or removal.lost != lost:
                continue
            if removal.kind == "soft" and told:
                continue  # M8: what was expired may serve in an emergency
            if promise is BOUND and known.revives and any(each.blind for each in told):
                continue  # M8: nobody could hear of it
            name = f"M8 ({promise})" if told else promise
            raise AssertionError(f"{name}: {value} of {began} after {removal}")
        if value is not None:
            until = self.fresh_until.get(self.ident(value), float("inf"))
            late = since.at - until  # whoever waits may be told long after the value was found
            assert late < 0 or told, f"TTL: {value} served as fresh, {late} s too late"
            assert late < self.longest, f"max_stale: {value} is {late} s too old"
