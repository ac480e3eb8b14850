"""A fleet of three processes under faults, checked against what the model promises.

Each value carries the step at which its load began. The oracle keeps, per process and key, the step at which the last
invalidation began that this process must respect: its own once they have returned (M1), others' once it has heard of
them or the staleness allowed has passed (M2).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backendkit.cache import flow, writes
from backendkit.cache.calls import Calls
from backendkit.cache.codecs import JsonCodec
from backendkit.cache.decide import entry as entries
from backendkit.cache.face import Cache
from backendkit.cache.loading import loading
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.core.clock import ManualClock
from backendkit.core.errors import StoreError
from backendkit.core.operation import DELETE, Change, Operation, Script
from backendkit.core.outcome import Error
from tests.unit.cache.stepped import LEADING, Running, SteppedIO
from tests.unit.cache.world import ByHand, World, WorldStore

STALENESS_S = 2.0
KEYS = {"a": ("t",), "b": ("t", "u")}
TAGS = ("t", "u")
POLICY = CachePolicy(
    ttl=5, max_stale=20, stale_while_revalidate=1, fail_safe_throttle=0.5, beta=1, max_wait=3
)


class Down(Exception):
    """What loaders raise here."""


@dataclass(eq=False)
class Process:
    """One process of the fleet."""

    cache: Cache
    store: WorldStore
    io: SteppedIO
    must: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    loading: dict[str, list[object]] = field(default_factory=lambda: defaultdict(list))

    @property
    def upkeep(self) -> ByHand:
        """Its upkeep."""
        upkeep: Any = self.cache._core.upkeep
        return upkeep  # type: ignore[no-any-return]


@dataclass(eq=False)
class Doing:
    """A flow, whose it is, and what its outcome must satisfy."""

    running: Running
    process: Process
    key: str | None = None
    need: int = 0
    keys: tuple[str, ...] = ()
    began: int = 0


class Fleet(RuleBasedStateMachine):
    """Rules are what may happen; checks are M1 to M4 and M6 to M8."""

    late_tags = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(mono_us=100_000_000)
        self.world = World(self.clock)
        self.now = 1
        self.doing: list[Doing] = []
        self.past: list[tuple[float, int, tuple[str, ...]]] = []  # invalidations that returned
        self.executed: dict[str, int] = defaultdict(int)  # of single keys, in the second tier
        self.processes = [self._process() for _ in range(3)]

    def _process(self) -> Process:
        cache = self.world.cache(
            namespace="m",
            codec=JsonCodec(),
            policy=POLICY,
            coherence=Coherence(max_l1_staleness=STALENESS_S, fail_safe_when_blind=False),
            chance=lambda: 1e-7,
        )
        store: Any = cache._store
        spawned: list[Running] = []
        return Process(cache, store, SteppedIO(store, cache._local.flights, spawned))

    # What callers do

    def _tick(self) -> int:
        self.now += 1
        return self.now

    @rule(which=st.integers(0, 2), key=st.sampled_from(sorted(KEYS)), fails=st.booleans())
    def get(self, which: int, key: str, *, fails: bool) -> None:
        """Ask for a value; the first tier answers at once, or a flow begins."""
        process = self.processes[which]
        need = self._need(process, key)
        cache = process.cache
        record: Any = cache._find(key)
        if record is not None and record.era is cache._local.era:
            self._check(record.give(), key, need)
            return
        call = Calls(cache._core).one(
            key, lambda: self._load(process, key, fails=fails), tags=self._tags(key)
        )
        running = Running(flow.get_or_load(process.io, cache._core, call))
        self.doing.append(Doing(running, process, key, need))
        self._step(self.doing[-1])

    def _tags(self, key: str) -> tuple[str, ...]:
        return () if self.late_tags else KEYS[key]

    def _load(self, process: Process, key: str, *, fails: bool) -> Any:
        """Begin a load; what is returned ends it."""
        began = self._tick()
        flight = LEADING.get()
        process.loading[key].append(flight)
        joined = process.cache._local.flights._flights.get(key)
        attached = [f for f in process.loading[key] if f is not None and f is joined]
        assert len(attached) <= 1, "M6: two attached loads"

        def end() -> Any:
            process.loading[key].remove(flight)
            running = loading()
            assert running is not None
            if self.late_tags:
                running.tag(*KEYS[key])
            if fails:
                raise Down
            return {"key": key, "began": began}

        return end

    @rule(which=st.integers(0, 2), key=st.sampled_from(sorted(KEYS)))
    def set(self, which: int, key: str) -> None:
        """Store a value that is of this very moment."""
        process = self.processes[which]
        value = {"key": key, "began": self._tick()}
        try:
            process.cache.set(key, value, tags=KEYS[key])
        except StoreError:
            return

    @rule(which=st.integers(0, 2), key=st.sampled_from(sorted(KEYS)))
    def invalidate(self, which: int, key: str) -> None:
        """Begin to remove one key."""
        core = self.processes[which].cache._core
        self._remove(which, (key,), writes.invalidate(self.processes[which].io, core, (key,)))

    @rule(which=st.integers(0, 2), tag=st.sampled_from(TAGS))
    def invalidate_tag(self, which: int, tag: str) -> None:
        """Begin to remove what has a tag."""
        core = self.processes[which].cache._core
        keys = tuple(key for key, tags in KEYS.items() if tag in tags)
        self._remove(which, keys, writes.invalidate_tags(self.processes[which].io, core, (tag,)))

    @rule(which=st.integers(0, 2))
    def clear(self, which: int) -> None:
        """Begin to remove all."""
        process = self.processes[which]
        self._remove(which, tuple(KEYS), writes.clear(process.io, process.cache._core))

    def _remove(self, which: int, keys: tuple[str, ...], work: Any) -> None:
        process = self.processes[which]
        doing = Doing(Running(work), process, keys=keys, began=self._tick())
        self.doing.append(doing)
        self._step(doing)

    # What goes on

    @rule(which=st.integers(0, 30), count=st.integers(1, 4))
    def go_on(self, which: int, count: int) -> None:
        """Let a flow go on."""
        if self.doing:
            doing = self.doing[which % len(self.doing)]
            for _ in range(count):
                if doing in self.doing:
                    self._step(doing)

    @rule(which=st.integers(0, 30))
    def finish(self, which: int) -> None:
        """Let a flow go on to its end, if nobody else keeps it."""
        if self.doing:
            doing = self.doing[which % len(self.doing)]
            for _ in range(40):
                if doing in self.doing:
                    self._step(doing)

    def _step(self, doing: Doing) -> None:
        self._tick()
        self.world.current = (doing.began, doing.keys) if doing.keys else None
        doing.running.step()
        self.world.current = None
        process = doing.process
        for running in process.io.spawned:
            self.doing.append(Doing(running, process))
        process.io.spawned.clear()
        outcome = doing.running.outcome
        if outcome is None:
            return
        self.doing.remove(doing)
        if doing.keys:
            self._removed(doing, outcome)
        elif isinstance(outcome, Error):
            assert isinstance(outcome.error, Down), f"M7: {outcome.error!r}"
        elif doing.key is not None:
            self._check(outcome.value, doing.key, doing.need)

    def _removed(self, doing: Doing, outcome: Any) -> None:
        if isinstance(outcome, Error):
            assert isinstance(outcome.error, StoreError)
            return
        self.past.append((self.clock.mono_us() / 1e6, doing.began, doing.keys))
        for key in doing.keys:
            doing.process.must[key] = max(doing.process.must[key], doing.began)

    # What befalls them

    @rule(which=st.integers(0, 2), count=st.integers(1, 20))
    def deliver(self, which: int, count: int) -> None:
        """Let messages through."""
        process = self.processes[which]
        line = process.store.line
        if line is None or not process.upkeep.channel.up or line.lost:
            return
        for item in list(line.inbox)[:count]:
            began = self.world.meant.get(item) if isinstance(item, bytes) else None
            own = isinstance(item, bytes) and item[1:9] == process.cache._core.names.origin
            if began is not None and not own:
                for key in began[1]:
                    process.must[key] = max(process.must[key], began[0])
        process.upkeep.receive(count)

    @rule(which=st.integers(0, 2))
    def duplicate(self, which: int) -> None:
        """Have a message come twice."""
        line = self.processes[which].store.line
        if line is not None and line.inbox:
            line.inbox.append(line.inbox[0])

    @rule(which=st.integers(0, 2))
    def beat(self, which: int) -> None:
        """Let the upkeep send a heartbeat, or listen again."""
        upkeep = self.processes[which].upkeep
        try:
            if upkeep.channel.up:
                upkeep.beat()
            else:
                upkeep.channel.open()
        except StoreError as error:
            upkeep.channel.close(error.reason)

    @rule(which=st.integers(0, 2))
    def renew(self, which: int) -> None:
        """Let the upkeep renew leases."""
        self.processes[which].upkeep.real.renew()

    @rule(which=st.integers(0, 2))
    def lose_line(self, which: int) -> None:
        """Cut the subscription: what was under way on it is lost."""
        line = self.processes[which].store.line
        if line is not None:
            line.lost = True
            line.close()

    @rule(which=st.integers(0, 2), cut=st.booleans())
    def cut(self, which: int, *, cut: bool) -> None:
        """Partition a process from the server, or heal it."""
        self.processes[which].store.cut = cut

    @rule(which=st.integers(0, 2), deaf=st.booleans())
    def deafen(self, which: int, *, deaf: bool) -> None:
        """Let answers be lost, or no more."""
        self.processes[which].store.deaf = deaf

    @rule(ms=st.sampled_from([50, 300, 1_000, 1_100, 2_000, 5_000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass."""
        self.clock.advance(ms * 1_000)

    @rule(key=st.sampled_from(sorted(KEYS)), what=st.sampled_from([0, 1]))
    def evict(self, key: str, what: int) -> None:
        """Let the server lose an entry or a lease."""
        name = self.processes[0].cache._core.names.keys(key)[what]
        self.world.server.run(Operation(EVICT, (name,), (), list))

    @rule(which=st.sampled_from([0, 1, 2, 3]))
    def evict_version(self, which: int) -> None:
        """Let the server lose a version."""
        name = self.processes[0].cache._core.names.versions(TAGS)[which]
        self.world.server.run(Operation(EVICT, (name,), (), list))

    # What must hold

    def _need(self, process: Process, key: str) -> int:
        now = self.clock.mono_us() / 1e6
        old = [began for at, began, keys in self.past if key in keys and now >= at + STALENESS_S]
        return max([process.must[key], *old])

    def _check(self, value: Any, key: str, need: int) -> None:
        assert value["key"] == key
        assert value["began"] > need, f"stale: load of {value['began']}, must be after {need}"

    @invariant()
    def nothing_old_is_in_the_second_tier(self) -> None:
        """M3: what stands there was loaded after the last invalidation that ran there began."""
        for key, tags in KEYS.items():
            names = self.processes[0].cache._core.names
            raw = self.world.server._state(names.keys(key)[0], self.clock.mono_us())
            found = None if raw is None else entries.parse(raw)
            if found is None:
                continue
            del tags
            value = JsonCodec().decode(found.payload[2:])
            assert value["began"] > self.world.ran[key], "M3: an old value was stored"

    @invariant()
    def nothing_old_is_in_the_first_tier(self) -> None:
        """M3: nothing that the process knows to be old would be served fresh."""
        for process in self.processes:
            for key in KEYS:
                record = writes.fresh(process.cache._core, key)
                if record is not None:
                    assert record.give()["began"] > process.must[key], "M3: in the first tier"

    def teardown(self) -> None:
        """Close what has not ended."""
        for doing in self.doing:
            doing.running.work.close()


class LateFleet(Fleet):
    """Tags are named by the loader, when it ends."""

    late_tags = True


EVICT = Script(
    "test.evict",
    lua="redis.call('DEL', KEYS[1]) return {1}",
    fold=lambda states, now, args: Change((DELETE,), [1]),
)
