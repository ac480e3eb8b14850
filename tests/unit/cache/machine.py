"""A fleet of three processes under faults, checked against what the model promises.

Rules are what callers do and what befalls them; `history` says what must hold. Each promise has its own assertion.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backendkit.cache import bulk, flow, reads, writes
from backendkit.cache.calls import Calls, never
from backendkit.cache.codecs import JsonCodec
from backendkit.cache.core import CLEAR, THROTTLED, Call
from backendkit.cache.decide import entry as entries
from backendkit.cache.decide import tier
from backendkit.cache.errors import LoadTimeout
from backendkit.cache.events import LoadFailed, StaleServed
from backendkit.cache.face import Cache
from backendkit.cache.loading import MISSING, NOT_MODIFIED, loading
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.core.clock import ManualClock
from backendkit.core.errors import StoreError
from backendkit.core.operation import DELETE, Change, Operation, Script
from backendkit.core.outcome import Error
from tests.unit.cache.history import History, Known, Moment, Need, Removal, Told
from tests.unit.cache.stepped import (
    BOARDED,
    LED,
    Pause,
    Running,
    SteppedIO,
    WatchedFlights,
    watch_tickets,
)
from tests.unit.cache.world import TELLING, ByHand, World, WorldStore

STALENESS_S = 2.0
WINDOW_S = 10.0
KEYS = {"a": ("t",), "b": ("t", "u")}
TAGS = ("t", "u")
WHICH = st.sampled_from([0, 0, 0, 1, 1, 2])
STEPS = st.sampled_from([0, 2, 40, 40])
PLAIN = CachePolicy(
    ttl=5, max_stale=20, stale_while_revalidate=1, fail_safe_throttle=0.5, beta=1, max_wait=3,
    negative_ttl=1,
)  # fmt: skip
SOFT = CachePolicy(ttl=5, max_stale=20, fail_safe_throttle=0.5, soft_timeout=0.1, max_wait=3)
HARD = CachePolicy(ttl=5, max_stale=20, fail_safe_throttle=0.5, hard_timeout=0.1, l1_ttl=1)
PATIENT = CachePolicy(ttl=5, max_stale=20, fail_safe_throttle=0.5, max_wait=3)
SHORT = CachePolicy(ttl=1, max_stale=20, fail_safe_throttle=0.5)


class Down(Exception):
    """What loaders raise here."""


@dataclass(frozen=True)
class Options:
    """What a fleet is made with."""

    policy: CachePolicy = PLAIN
    late_tags: bool = False
    revives: bool = False
    on_unreachable: Literal["raise", "queue"] = "raise"
    on_restart: Literal["replay", "clear"] = "replay"
    looks: bool = True


@dataclass(eq=False)
class Loading:
    """A loader that runs."""

    began: float
    at: float
    flight: object
    ticket: Any
    era: object


@dataclass(eq=False)
class Process:
    """One process of the fleet."""

    number: int
    cache: Cache
    store: WorldStore
    io: SteppedIO
    known: Known = field(default_factory=Known)
    running: dict[str, list[Loading]] = field(default_factory=lambda: defaultdict(list))

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
    since: Moment = field(default_factory=lambda: Moment(0, 0.0))
    needs: dict[str, list[Need]] = field(default_factory=dict)
    """Of the keys that it reads."""
    removals: list[Removal] = field(default_factory=list)
    """That it carries out."""
    brought: list[tuple[str, float]] = field(default_factory=list)
    """Values that its loaders have brought."""
    failed: bool = False
    """Whether a loader that it ran fails."""
    reads: Any = None
    """How values are found in what it returns, by key."""


class Fleet(RuleBasedStateMachine):
    """Rules are what may happen."""

    options = Options()

    def __init__(self) -> None:
        super().__init__()
        self._begin(self.options)

    def _begin(self, options: Options) -> None:
        self.options = options
        policy = options.policy
        self.clock = ManualClock(mono_us=100_000_000)
        self.world = World(self.clock)
        self.world.sends, self.world.ran = self._sent, self._ran
        self.history = History(
            STALENESS_S, float(policy.throttle_us) / 1e6, float(policy.stale_us) / 1e6
        )
        self.meaning: dict[bytes, list[Removal]] = {}
        self.doing: list[Doing] = []
        self.stepped: Doing | None = None
        self.calm = True
        """Whether no fault has happened yet: then the fleet has one load per key."""
        self.snapshot: tuple[float, dict[bytes, tuple[Any, int]]] = (0, {})
        self.processes: list[Process] = []
        self.processes = [self._process(number) for number in range(3)]

    def _process(self, number: int) -> Process:
        options = self.options
        cache = self.world.cache(
            namespace="m",
            codec=JsonCodec(),
            policy=options.policy,
            coherence=Coherence(
                max_l1_staleness=STALENESS_S,
                fail_safe_when_blind=options.revives,
                on_unreachable=options.on_unreachable,
                on_restart=options.on_restart,
                replication_window=WINDOW_S,
                max_queue=3,
            ),
            chance=lambda: 1e-7,
        )
        store: Any = cache._store
        local = cache._local
        local.flights = WatchedFlights()
        watch_tickets(local)
        process = Process(number, cache, store, SteppedIO(store, local.flights, []))
        if not options.looks:
            cache._core.looks.share = 0.0  # one look in ten does not pay: loads ask by scripts
        process.known.revives = options.revives
        cache.hooks.add(partial(self._told, process), StaleServed, LoadFailed)
        return process

    @initialize(
        policy=st.sampled_from([PLAIN, SOFT, HARD, SHORT]), late_tags=st.booleans(), revives=st.booleans(),
        on_unreachable=st.sampled_from(["raise", "queue"]), on_restart=st.sampled_from(["replay", "clear"]),
        looks=st.booleans(),
    )  # fmt: skip
    def configure(self, **options: Any) -> None:
        """Begin with other options."""
        self._begin(Options(**options))

    @property
    def now(self) -> float:
        """Seconds."""
        return self.clock.mono_us() / 1e6

    # What may happen next: so many rules that each of them has a fair chance

    @rule(
        which=WHICH, keys=st.sampled_from(["a", "a", "a", "b", "ab", "ba"]), steps=STEPS,
        how=st.sampled_from(["value", "value", "value", "fails", "none", "same"]),
    )  # fmt: skip
    def reads(self, which: int, keys: str, how: str, steps: int) -> None:
        """Ask for one key, or for both in one call."""
        if len(keys) == 1:
            self._to(steps, partial(self.get, which, keys, how))
        else:
            how = "value" if how == "same" else how
            self._to(steps, partial(self.get_all, which, list(keys), how))

    @rule(which=WHICH, keys=st.sampled_from(["a", "a", "b", "ab"]), steps=STEPS)
    def looks(self, which: int, keys: str, steps: int) -> None:
        """Ask for what is there."""
        self._to(steps, partial(self.look, which, list(keys)))

    @rule(
        which=WHICH, key=st.sampled_from("aab"), steps=STEPS,
        what=st.sampled_from(["key", "key", "soft", "t", "u", "all", "set", "sets"]),
    )  # fmt: skip
    def removes(self, which: int, key: str, what: str, steps: int) -> None:
        """Remove something, or store something else."""
        ways: dict[str, Any] = {
            "key": partial(self.invalidate, which, key),
            "soft": partial(self.expire, which, key),
            "all": partial(self.clear, which),
            "set": partial(self.set, which, [key]),
            "sets": partial(self.set, which, sorted(KEYS)),
        }
        self._to(steps, ways.get(what) or partial(self.invalidate_tag, which, what))

    def _to(self, steps: int, begin: Any) -> None:
        before = list(self.doing)
        begin()
        for _ in range(steps):
            for doing in [each for each in self.doing if each not in before]:
                if doing in self.doing:
                    self._step(doing)

    @rule(which=WHICH, what=st.sampled_from(["beat", "beat", "mend"]))
    def keeps_up(self, which: int, what: str) -> None:
        """Let the upkeep do what is due."""
        (self.beat if what == "beat" else self.mend)(which)

    @rule(which=WHICH, what=st.sampled_from(["cut", "deaf", "slow"]), on=st.booleans())
    def troubles(self, which: int, what: str, *, on: bool) -> None:
        """Break the way of a process to the server, or mend it."""
        store, self.calm = self.processes[which].store, False
        store.cut, store.deaf, store.slow = (
            on and what == each for each in ("cut", "deaf", "slow")
        )

    @rule(
        which=WHICH, at=st.integers(0, 3),
        what=st.sampled_from(["duplicate", "reorder", "drop", "lost", "half-open"]),
    )  # fmt: skip
    def troubles_the_channel(self, which: int, what: str, at: int) -> None:
        """Have messages come twice, in another order, or not; or none any more."""
        ways: dict[str, Any] = {
            "duplicate": self.duplicate,
            "reorder": partial(self.reorder, at=at),
            "drop": self.drop,
            "lost": self.lose_line,
            "half-open": partial(self.lose_line, half_open=True),
        }
        ways[what](which)

    @rule(
        what=st.sampled_from(["entry", "lease", "version", "flush", "empty", "replicate", "replicate", "over"]),
        key=st.sampled_from("aab"), number=st.integers(0, 3), silent=st.booleans(),
    )  # fmt: skip
    def troubles_the_server(self, what: str, key: str, number: int, *, silent: bool) -> None:
        """Let the server lose something, or another take its place."""
        ways: dict[str, Any] = {
            "entry": partial(self.evict, key, 0),
            "lease": partial(self.evict, key, 1),
            "version": partial(self.evict_version, number),
            "flush": self.flush_all,
            "empty": partial(self.restart, silent=silent),
            "replicate": self.replicate,
            "over": partial(self.fail_over, silent=silent),
        }
        ways[what]()

    @rule(which=st.integers(0, 9), forks=st.integers(0, 5))
    def comes_late_or_forks(self, which: int, forks: int) -> None:
        """Have the server carry out what was given up; or a process go on as its child."""
        if self.world.late:
            self.arrive(which)
        elif forks == 0:
            self.fork(which % 3)

    # What callers do

    def get(self, which: int, key: str, how: str = "value") -> None:
        """Ask for a value; the first tier answers at once, or a flow begins."""
        process = self.processes[which]
        needs, cache, since = self._needs(process, key), process.cache, self._moment()
        record: Any = cache._find(key)
        if record is not None and record.era is cache._local.era:
            self._check(process, record.give(), key, needs, since)
            return
        call = self._call(process, key, lambda: self._load(process, [key], how)[key])
        work = flow.get_or_load(process.io, cache._core, call)
        self._read(Doing(Running(work), process, since, {key: needs}, reads=lambda out: {key: out}))

    def get_all(self, which: int, keys: list[str], how: str = "value") -> None:
        """Ask for all, in one call."""
        process = self.processes[which]

        async def load(missing: list[str]) -> Any:
            ends = self._load(process, missing, how)
            await Pause()
            for key in missing if how == "fails" else ():
                with suppress(Down):
                    ends[key]()
            if how == "fails":
                raise Down
            return {key: end() for key, end in ends.items()}

        calls = [self._call(process, key, never, tags=TAGS) for key in keys]
        needs, since = {key: self._needs(process, key) for key in keys}, self._moment()
        work = bulk.get_or_load_many(process.io, process.cache._core, calls, load)
        self._read(
            Doing(Running(work), process, since, needs, reads=lambda out: dict(zip(keys, out, strict=True)))
        )  # fmt: skip

    def look(self, which: int, keys: list[str]) -> None:
        """Ask for what is there, and load nothing."""
        process = self.processes[which]
        core = process.cache._core
        needs, since = {key: self._needs(process, key) for key in keys}, self._moment()
        work = reads.get_many(process.io, core, keys, Calls(core).pattern)
        self._read(Doing(Running(work), process, since, needs, reads=lambda out: out))

    def _read(self, doing: Doing) -> None:
        self.doing.append(doing)
        self._step(doing)

    def _call(self, process: Process, key: str, loader: Any, tags: Any = None) -> Call:
        given = () if self.options.late_tags else KEYS[key]
        return Calls(process.cache._core).one(key, loader, tags=given if tags is None else tags)

    def _load(self, process: Process, keys: list[str], how: str) -> dict[str, Any]:
        """Begin a load; what is returned ends it, for each key."""
        began = self.history.tick()
        return {key: self._load_one(process, key, began, how) for key in keys}

    def _load_one(self, process: Process, key: str, began: float, how: str) -> Any:
        run = Loading(
            began, self.now, LED.get().get(key), BOARDED.get().get(key), process.cache._local.era
        )
        self._alone(process, key, run)
        process.running[key].append(run)
        running = loading()
        assert running is not None
        stale = running.stale
        changed = self.history.changed[key]
        if self.stepped is not None:
            self.stepped.failed = how == "fails"

        def end() -> Any:
            process.running[key].remove(run)
            if self.options.late_tags and len(running._keys) == 1:
                running.tag(*KEYS[key])
            if how == "fails":
                raise Down
            if how == "none":
                self.history.nones[key] = max(self.history.nones[key], began)
                return None
            value = {"key": key, "began": began}
            same = how == "same" and stale is not MISSING and stale is not None
            if same and self.history.began(stale) > changed:
                value = stale
            ident = self.history.ident(value)
            self.history.fresh_until[ident] = float("inf")  # until it is known when its life began
            if self.stepped is not None:
                self.stepped.brought.append(ident)
            return NOT_MODIFIED if value is stale else value

        return end

    def _alone(self, process: Process, key: str, run: Loading) -> None:
        """Check M6: in this process, and in the fleet while nothing is wrong."""
        if run.ticket is None or not run.ticket.attached:
            return
        for other in process.running[key]:
            attached = other.ticket is not None and other.ticket.attached and other.era is run.era
            assert not attached, "M6: two attached loads in one process"
        if not self.calm or self.stepped is None:
            return
        ended = max([r.ran_step for r in self.history.removals if key in r.keys and r.kind != "version"], default=0)  # fmt: skip
        if ended > self.stepped.since.step:
            return  # its own lease may have been removed since it took it
        waited = self.now - self.options.policy.wait_us / 1e6
        for each in self.processes:
            for other in each.running[key]:
                over = other.began < ended or other.at <= waited
                detached = other.ticket is None or not other.ticket.attached
                assert over or detached, "M6: two loads in the fleet"

    def set(self, which: int, keys: list[str]) -> None:
        """Store values; each is of when the server stores it."""
        process = self.processes[which]
        core = process.cache._core
        pairs, removals = [], []
        for key in keys:
            removal = self.history.remove((key,), "set", which)
            number = len(self.history.sets)
            self.history.sets[number] = removal.began + 0.5
            removals.append(removal)
            pairs.append((Calls(core).one(key, never, tags=KEYS[key]), {"key": key, "set": number}))
        self._remove(process, removals, writes.set_many(process.io, core, pairs))

    def invalidate(self, which: int, key: str) -> None:
        """Begin to remove one key."""
        process = self.processes[which]
        removal = self.history.remove((key,), "key", which)
        work = writes.invalidate(process.io, process.cache._core, (key,))
        self._remove(process, [removal], work)

    def expire(self, which: int, key: str) -> None:
        """Begin to make one key stale."""
        process = self.processes[which]
        removal = self.history.remove((key,), "soft", which)
        self._remove(process, [removal], writes.expire(process.io, process.cache._core, (key,)))

    def invalidate_tag(self, which: int, tag: str) -> None:
        """Begin to remove what has a tag."""
        process = self.processes[which]
        keys = tuple(key for key, tags in KEYS.items() if tag in tags)
        removal = self.history.remove(keys, "version", which)
        work = writes.invalidate_tags(process.io, process.cache._core, (tag,))
        self._remove(process, [removal], work)

    def clear(self, which: int) -> None:
        """Begin to remove all."""
        process = self.processes[which]
        removal = self.history.remove(tuple(KEYS), "version", which)
        self._remove(process, [removal], writes.clear(process.io, process.cache._core))

    def _remove(self, process: Process, removals: list[Removal], work: Any) -> None:
        doing = Doing(Running(work), process, removals=removals)
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
            self._finish(self.doing[which % len(self.doing)])

    def _finish(self, doing: Doing) -> None:
        for _ in range(40):
            if doing in self.doing:
                self._step(doing)

    def _step(self, doing: Doing) -> None:
        self.history.tick()
        self.stepped = doing
        doing.running.step()
        self.stepped = None
        process = doing.process
        for running in process.io.spawned:
            self.doing.append(Doing(running, process))
        process.io.spawned.clear()
        outcome = doing.running.outcome
        if outcome is None:
            return
        self.doing.remove(doing)
        for ident in doing.brought:
            self._live(ident, self.now)
        if doing.removals:
            self._removed(doing, outcome)
        elif isinstance(outcome, Error):
            timely = isinstance(outcome.error, LoadTimeout) and self.options.policy is HARD
            assert timely or isinstance(outcome.error, Down), f"M7: {outcome.error!r}"
        elif doing.reads is not None:
            self._found(doing, doing.reads(outcome.value))

    def _found(self, doing: Doing, found: Any) -> None:
        for key, needs in doing.needs.items():
            if found[key] is not MISSING:
                self._check(doing.process, found[key], key, needs, doing.since)
                self._fell_back(doing, key, found[key])

    def _fell_back(self, doing: Doing, key: str, value: Any) -> None:
        """Check M8 where it was decided: a load that fails revives nothing that its process knows to be removed."""
        known, step = doing.process.known, self.history.step
        if not doing.failed or value is None or not any(t.step == step for t in known.told[key]):
            return
        for removal in known.learnt(key, soft=False):
            assert self.history.began(value) > removal.began, f"M8: {value} after {removal}"

    def _live(self, ident: tuple[str, float], at: float) -> None:
        until = self.history.fresh_until
        until[ident] = at + self.options.policy.ttl_us / 1e6

    def _removed(self, doing: Doing, outcome: Any) -> None:
        upkeep = doing.process.upkeep
        if isinstance(outcome, Error):
            assert isinstance(outcome.error, StoreError), f"M5: {outcome.error!r}"
            return
        for removal in doing.removals:
            trusted = any(upkeep.trusts(key) for key in removal.keys)
            queued = self.options.on_unreachable == "queue" and not trusted
            done = removal.ran_at is not None or removal.lost
            assert done or queued, "M5: it has neither landed nor is it queued"
            removal.returned_at = self.now
            doing.process.known.own[removal] = removal.lost

    # What the server does

    def _sent(self, store: WorldStore, operation: Operation[Any]) -> None:
        if operation.script not in TELLING:
            return
        message = bytes(operation.args[-1])
        if message in self.meaning:
            return
        about = message[:1] + message[17:]
        removals = [] if self.stepped is None else self.stepped.removals
        if removals and removals[0].kind != "version":
            names = self.processes[0].cache._core.names
            removals = [r for r in removals if names.keys(r.keys[0])[0] == operation.keys[0]]
        for removal in removals:
            removal.about = about
        if not removals:  # once more, or all: for what the queue had no room for
            process = next((p for p in self.processes if p.store is store), None)
            own = [] if process is None else list(process.known.own)
            removals = [r for r in own if about[:1] == CLEAR or r.about == about]
        self.meaning[message] = removals

    def _ran(self, operation: Operation[Any], reply: Any) -> None:
        if operation.script in TELLING:
            for removal in self.meaning[bytes(operation.args[-1])]:
                self.history.run(removal, self.now)
        if operation.script is tier.PUT:
            value = self._stored(operation.keys[0])
            for removal in self.meaning[bytes(operation.args[-1])]:
                removal.began = self.history.tick()
                self.history.changed[removal.keys[0]] = removal.began
                self.history.sets[value["set"]] = removal.began + 0.5
            self._live(self.history.ident(value), self.now)
        if operation.script is tier.STORE and reply[0]:
            value = self._stored(operation.keys[0])
            if value is not None:
                self._live(self.history.ident(value), self.now)

    def _stored(self, name: bytes) -> Any:
        raw = self.world.server._state(name, self.clock.mono_us())
        found = None if raw is None else entries.parse(raw)
        return None if found is None else JsonCodec().decode(found.payload[2:])

    # What befalls them

    @rule(which=WHICH, count=st.sampled_from([1, 2, 20]))
    def deliver(self, which: int, count: int) -> None:
        """Let messages through."""
        process = self.processes[which]
        line = process.store.line
        if line is None or not process.upkeep.channel.up or line.lost:
            return
        for item in list(line.inbox)[:count]:
            if isinstance(item, bytes):
                for removal in self.meaning.get(item, ()):
                    if not any(removal in doing.removals for doing in self.doing if doing.process is process):  # fmt: skip
                        process.known.hear(removal)  # else its return will say so
        process.upkeep.receive(count)

    def duplicate(self, which: int) -> None:
        """Have a message come twice."""
        line = self.processes[which].store.line
        if line is not None and line.inbox:
            line.inbox.append(line.inbox[0])

    def reorder(self, which: int, at: int) -> None:
        """Have two messages change places; none and a heartbeat's answer do: they come over one connection."""
        line = self.processes[which].store.line
        if line is not None and at + 1 < len(line.inbox):
            one, two = line.inbox[at], line.inbox[at + 1]
            if isinstance(one, bytes) and isinstance(two, bytes):
                line.inbox[at], line.inbox[at + 1] = two, one

    def drop(self, which: int) -> None:
        """Lose one message of a connection that lives: no bound but the entry's life is left for it, until the next loss."""
        process = self.processes[which]
        line = process.store.line
        if line is None or not line.inbox or not isinstance(line.inbox[0], bytes):
            return
        self.calm = False
        for removal in self.meaning.get(bytes(line.inbox.popleft()), ()):
            process.known.dropped[removal] = removal.lost

    def beat(self, which: int) -> None:
        """Let the upkeep send a heartbeat, or listen again."""
        process = self.processes[which]
        upkeep = process.upkeep
        if not upkeep.channel.up:
            self._listen(process)
            return
        try:
            upkeep.beat()
        except StoreError as error:
            upkeep.channel.close(error.reason)

    def _listen(self, process: Process) -> None:
        before = process.upkeep.channel.identities
        process.upkeep.open()
        if not process.upkeep.channel.up:
            return
        # What the server has carried out by now nobody here has any more: the first tier is empty.
        for removal in self.history.removals:
            if removal.ran_at is not None:
                process.known.hear(removal)
        if before not in (None, process.upkeep.channel.identities):
            self._replayed(process)

    def _replayed(self, process: Process) -> None:
        """Check that what a failover has undone was repeated, and is respected from now on."""
        for removal in process.known.own:
            at = removal.returned_at
            noted = removal.kind != "set" and removal.lost and at is not None
            if noted and at is not None and at >= removal.lost_at - WINDOW_S:
                assert removal.ran_at is not None, f"replay: {removal} was forgotten"
            if removal.ran_at is not None:
                process.known.own[removal] = removal.lost

    def mend(self, which: int) -> None:
        """Let the upkeep renew leases, and send what waits."""
        self.processes[which].upkeep.mend()

    def lose_line(self, which: int, *, half_open: bool = False) -> None:
        """Cut the subscription, with a word or without: what was under way on it is lost."""
        line = self.processes[which].store.line
        self.calm = False
        if line is not None and half_open:
            line.hang_half_open()
        elif line is not None:
            line.lost = True
            line.close()

    def cut(self, which: int, *, cut: bool) -> None:
        """Partition a process from the server, or heal it."""
        self.processes[which].store.cut = cut
        self.calm = False

    def deafen(self, which: int, *, deaf: bool) -> None:
        """Let answers be lost, or no more."""
        self.processes[which].store.deaf = deaf
        self.calm = False

    def slow_down(self, which: int, *, slow: bool) -> None:
        """Let what is sent be carried out after its sender has given it up, or no more."""
        self.processes[which].store.slow = slow
        self.calm = False

    def arrive(self, which: int) -> None:
        """Have the server carry out what was given up."""
        if self.world.late:
            self.world.carry_out(self.world.late.pop(which % len(self.world.late)))

    @rule(ms=st.sampled_from([50, 300, 1_000, 1_100, 2_000, 5_000]), renewing=st.booleans())
    def pass_time(self, ms: int, *, renewing: bool = False) -> None:
        """Let time pass, for everybody; a process that is not renewing is paused, or its upkeep is."""
        if not renewing:
            self.clock.advance(ms * 1_000)
            self.calm = self.calm and ms < 700
        while renewing and ms > 0:
            self.clock.advance(min(ms, 250) * 1_000)
            ms -= 250
            for process in self.processes:
                process.upkeep.mend()

    def evict(self, key: str, what: int) -> None:
        """Let the server lose an entry or a lease."""
        name = self.processes[0].cache._core.names.keys(key)[what]
        self.world.server.run(Operation(EVICT, (name,), (), list))
        self.calm = False

    def evict_version(self, which: int) -> None:
        """Let the server lose a version."""
        name = self.processes[0].cache._core.names.versions(TAGS)[which]
        self.world.server.run(Operation(EVICT, (name,), (), list))
        self.calm = False

    def flush_all(self) -> None:
        """Have somebody empty the server."""
        self.world.server.states.clear()
        self.calm = False

    def restart(self, *, silent: bool) -> None:
        """Have the server come back empty, and as another."""
        self.world.fail_over({}, silent=silent)
        self.calm = False

    def replicate(self) -> None:
        """Have the replica catch up."""
        self.snapshot = (self.history.tick(), dict(self.world.server.states))

    def fail_over(self, *, silent: bool) -> None:
        """Have the replica take over: what it has not heard of has not happened."""
        self.calm = False
        since, states = self.snapshot
        self.history.undo(since, self.now)
        self.world.fail_over(states, silent=silent)

    def fork(self, which: int) -> None:
        """Have a process go on as its own child: without threads, flows and queue."""
        self.calm = False
        process = self.processes[which]
        for doing in [each for each in self.doing if each.process is process]:
            doing.running.work.close()
            self.doing.remove(doing)
        process.running.clear()
        process.cache.after_fork_in_child()
        process.cache._local.flights.after_fork_in_child()
        process.upkeep.fork()
        known = process.known
        known.own = {}  # its parent's: it repeats none of them, and has no queue
        for removal in self.history.removals:
            if removal.ran_at is not None:
                known.hear(removal)

    @precondition(lambda self: self.history.step > 60)
    @rule()
    def settle(self) -> None:
        """Let all faults end and all flows go on: everybody agrees, and nobody has what was removed."""
        for process in self.processes:
            process.store.cut = process.store.deaf = process.store.slow = False
        self._finish_all()
        self.clock.advance(2_100_000)
        for which, process in enumerate(self.processes):
            for _ in range(3):
                self.beat(which)
            process.upkeep.mend()
            process.upkeep.mend()
        for which in range(3):
            self.beat(which)
            self.deliver(which, 1_000)
        self._agree()

    def _finish_all(self) -> None:
        for _ in range(200):
            for doing in list(self.doing):
                if doing in self.doing:
                    self._step(doing)
            if not self.doing:
                return
            self.pass_time(20, renewing=True)
        raise AssertionError("M7: a caller hangs")

    def _agree(self) -> None:
        """Check that whoever is trusted knows of all that was removed."""
        for process in self.processes:
            known = process.known
            for removal in self.history.removals if process.cache.stats().trusted else ():
                knows = (known.own, known.heard, known.dropped)
                if removal.ran_at is not None and removal.lost not in [k.get(removal) for k in knows]:  # fmt: skip
                    waits = not any(process.upkeep.trusts(key) for key in removal.keys)
                    assert waits, f"M2: not heard, {removal}"

    # What must hold

    def _moment(self) -> Moment:
        return Moment(self.history.tick(), self.now)

    def _told(self, process: Process, event: StaleServed | LoadFailed) -> None:
        if isinstance(event, LoadFailed) and not event.stale_served:
            return
        reason = event.reason if isinstance(event, StaleServed) else "error"
        blind = self.now >= process.cache._local.l1.trusted_until
        told = Told(self.history.step, self.now, reason, blind)
        process.known.told[event.key].append(told)

    def _needs(self, process: Process, key: str) -> list[Need]:
        return self.history.needs(process.known, key, self.now)

    def _check(
        self, process: Process, value: Any, key: str, needs: list[Need], since: Moment
    ) -> None:
        self.history.check(process.known, value, {key: needs}, since, self.now)

    @invariant()
    def all_holds(self) -> None:
        """M3, M4 and M5 hold at any time; the others when a call returns."""
        self.nothing_old_is_in_the_second_tier()
        self.nothing_old_is_in_the_first_tier()
        self.nobody_joins_what_began_before_a_removal()
        self.what_waits_is_not_trusted()

    def nothing_old_is_in_the_second_tier(self) -> None:
        """M3: what stands there was loaded after the last removal that ran there began."""
        now = self.clock.mono_us()
        names = self.processes[0].cache._core.names
        versions = [self.world.server._state(name, now) for name in names.versions(TAGS)]
        tags = dict(zip(TAGS, versions[2:], strict=True))
        for key in KEYS:
            raw = self.world.server._state(names.keys(key)[0], now)
            found = None if raw is None else entries.parse(raw)
            value = None if found is None else JsonCodec().decode(found.payload[2:])
            if found is None or value is None or found.namespace != versions[0]:
                continue
            if any(tags[tag] != token for tag, token in found.tags):
                continue  # nobody believes it
            for removal in self.history.removals:
                if removal.ran_at is None or key not in removal.keys:
                    continue
                if removal.kind == "soft" and found.fresh <= self.clock.wall_us():
                    continue
                began = self.history.began(value)
                assert began > removal.began, f"M3: stored after {removal}: {value}"

    def nothing_old_is_in_the_first_tier(self) -> None:
        """M3: nothing that the process knows to be old would be served fresh."""
        for process in self.processes:
            for key in KEYS:
                record = writes.fresh(process.cache._core, key)
                if record is not None and record.deadline != THROTTLED:
                    value, since = record.give(), Moment(self.history.step + 1, self.now)
                    needs = [
                        Need(removal, removal.lost, "M3: in the first tier")
                        for removal in process.known.learnt(key)
                    ]
                    self._check(process, value, key, needs, since)

    def nobody_joins_what_began_before_a_removal(self) -> None:
        """M4: loads that were under way when it came are detached."""
        for process in self.processes:
            flights = process.cache._local.flights._flights
            for key, runs in process.running.items():
                for run in runs:
                    if run.flight is None or flights.get(key) is not run.flight:
                        continue
                    for removal in process.known.learnt(key):
                        assert run.began > removal.began, f"M4: not detached by {removal}"

    def what_waits_is_not_trusted(self) -> None:
        """M5: as long as a removal waits in the queue, its process does not believe the second tier."""
        for process in self.processes:
            for removal in process.known.own:
                if removal.ran_at is None and not removal.lost:
                    for key in removal.keys:
                        assert not process.upkeep.trusts(key), f"M5: trusted before {removal}"

    def teardown(self) -> None:
        """Close what has not ended."""
        for doing in self.doing:
            doing.running.work.close()


class LateFleet(Fleet):
    """Tags are named by the loader, when it ends."""

    options = Options(late_tags=True)


EVICT = Script(
    "test.evict",
    lua="redis.call('DEL', KEYS[1]) return {1}",
    fold=lambda states, now, args: Change((DELETE,), [1]),
)
