"""A fleet in one process: a second tier of the scripts' own folds, and a channel that a test may disturb."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from backendkit.cache.channel import Channel
from backendkit.cache.core import Core
from backendkit.cache.decide import tier, versions
from backendkit.cache.face import Cache
from backendkit.cache.keeper import Keeper, Turns
from backendkit.cache.upkeep import Busy
from backendkit.core.clock import ManualClock
from backendkit.core.errors import OutcomeUnknown, StoreError, StoreUnavailable
from backendkit.core.operation import DELETE, Operation
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import StoreStats

TELLING = (tier.INVALIDATE, tier.EXPIRE, tier.PUT, versions.BUMP)
"""Scripts that remove something, and say so."""


class Server:
    """What a server holds: states, and until when."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.states: dict[bytes, tuple[Any, int]] = {}

    def run(self, operation: Operation[Any]) -> Any:
        """Carry out an operation."""
        return operation.read(self.reply(operation))

    def reply(self, operation: Operation[Any]) -> Any:
        """Carry out an operation; return the bare reply."""
        now = self.clock.mono_us()
        states = [self._state(key, now) for key in operation.keys]
        writes, reply = operation.script.fold(states, self.clock.wall_us(), operation.args)
        for key, write in zip(operation.keys, writes, strict=False):
            if write is DELETE:
                self.states.pop(key, None)
            elif isinstance(write, tuple):
                self.states[key] = (write[0], now + write[1])
        return reply

    def _state(self, key: bytes, now: int) -> Any:
        found = self.states.get(key)
        return found[0] if found is not None and found[1] > now else None


class World:
    """One server, and every cache that uses it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.server = Server(clock)
        self.identity = b"one"
        self.lines: list[WorldLine] = []
        self.caches: list[Cache] = []
        self.late: list[Operation[Any]] = []
        """Sent, given up by who sent it, and not yet carried out."""
        self.sends: Callable[[WorldStore, Operation[Any]], None] = lambda store, operation: None
        """Is told of each operation before it is sent."""
        self.ran: Callable[[Operation[Any], Any], None] = lambda operation, reply: None
        """Is told of each operation that was carried out, and its reply."""

    def cache(self, **options: Any) -> Cache:
        """Return a cache whose channel is open, and moves only when a test says so."""
        store = WorldStore(self)
        cache = Cache(store, **options)
        core = cache._core
        core.upkeep = ByHand(core, store)
        core.upkeep.connect()
        self.caches.append(cache)
        return cache

    def carry_out(self, operation: Operation[Any]) -> Any:
        """Run it, tell all who listen, return the bare reply."""
        reply = self.server.reply(operation)
        self.ran(operation, reply)
        if operation.script.name.startswith("cache.") and reply[-1] == 1:
            for line in self.lines:
                line.inbox.append(operation.args[-1])
        return reply

    def fail_over(self, states: dict[bytes, tuple[Any, int]], *, silent: bool) -> None:
        """Have another server go on from `states`; who listened is told by a lost connection, or by silence."""
        self.server.states = dict(states)
        self.identity += b"'"
        self.late.clear()
        for line in self.lines:
            line.mute, line.lost = silent, not silent
        self.lines.clear()


class WorldStore:
    """The world's server as one process sees it: it may be cut off, its answers lost, its messages late."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut = False
        self.deaf = False
        self.slow = False
        self.aio: Any = _Awaited(self)
        self.line: WorldLine | None = None

    @property
    def clock(self) -> ManualClock:
        """The world's."""
        return self.world.clock

    def run(self, operation: Operation[Any]) -> Any:
        """Run it, publish, answer."""
        self.world.sends(self, operation)
        if self.cut:
            raise StoreUnavailable("cut off")
        if self.slow:
            self.world.late.append(operation)
            raise OutcomeUnknown("no answer in time")
        reply = self.world.carry_out(operation)
        if self.deaf:
            raise OutcomeUnknown("the answer was lost")
        return operation.read(reply)

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Run them one by one."""
        outcomes: list[Outcome[Any]] = []
        for operation in operations:
            try:
                outcomes.append(Value(self.run(operation)))
            except Exception as error:  # noqa: BLE001 - an outcome
                outcomes.append(Error(error))
        return outcomes

    def route(self, operation: Operation[Any]) -> str:
        """One server."""
        return "world"

    def stats(self) -> StoreStats:
        """Nothing."""
        return StoreStats()

    def close(self) -> None:
        """Nothing."""

    def primaries(self) -> Sequence[str]:
        """One."""
        return ["world"]

    def companion(self, make: Any) -> Any:
        """None: a test does the turns."""
        return StillKeeper(self.clock, None)

    def listen(self, server: str) -> WorldLine:
        """Connect."""
        if self.cut:
            raise StoreUnavailable("cut off")
        self.line = WorldLine(self)
        return self.line

    def suspect(self, server: str) -> None:
        """Nothing."""


class _Awaited:
    def __init__(self, store: WorldStore) -> None:
        self.sync = store

    async def run(self, operation: Operation[Any]) -> Any:
        return self.sync.run(operation)

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        return self.sync.run_many(operations)

    async def close(self) -> None:
        """Nothing."""


class WorldLine:
    """A subscription: what was published waits in `inbox`, heartbeats among it, until the test has it delivered."""

    server = "world"
    eviction = "noeviction"
    pending = False

    def __init__(self, store: WorldStore) -> None:
        self.store = store
        self.identity = store.world.identity
        self.inbox: deque[bytes | int] = deque()
        self.deliver = 0
        self.lost = False
        self.mute = False
        """Half-open: nothing comes, and nobody says so."""
        self.channel = b""
        self.confirmed = False

    def fileno(self) -> int:
        """No socket."""
        raise AssertionError("a test does the turns")

    def subscribe(self, channel: bytes) -> None:
        """Listen; confirmed in the very next `read`, whatever is let through."""
        if self.lost:
            raise StoreUnavailable("the connection is lost")
        self.channel = channel
        self.store.world.lines.append(self)

    def unsubscribe(self, channel: bytes) -> None:
        """Listen no more."""

    def ping(self, number: int) -> None:
        """Take a heartbeat; answered in turn."""
        if self.lost:
            raise StoreUnavailable("the connection is lost")
        if not self.mute:
            self.inbox.append(number)

    def read(self) -> tuple[list[tuple[bytes, bytes | None]], int | None]:
        """Return as much as the test lets through."""
        if self.lost:
            raise StoreUnavailable("the connection is lost")
        messages: list[tuple[bytes, bytes | None]] = []
        if not self.confirmed:
            self.confirmed = True
            messages.append((self.channel, None))
        beat: int | None = None
        while self.deliver and self.inbox:
            self.deliver -= 1
            item = self.inbox.popleft()
            if isinstance(item, int):
                beat = item
            else:
                messages.append((self.channel, item))
        self.deliver = 0
        return messages, beat

    def hang_half_open(self) -> None:
        """Hear nothing from now on."""
        self.mute = True
        self.inbox.clear()
        self.close()

    def close(self) -> None:
        """Unsubscribe."""
        if self in self.store.world.lines:
            self.store.world.lines.remove(self)


class StillKeeper(Keeper):
    """A keeper without a thread."""

    def join(self, member: Any) -> None:
        """No thread."""


class ByHand(Busy):
    """The upkeep without its thread: a test does its turns."""

    def __init__(self, core: Core, store: WorldStore) -> None:
        super().__init__(core, store, StillKeeper(store.clock, None), listens=True)
        self.held = core
        self.store = store
        self.channel = HandChannel(self, store)

    @property
    def real(self) -> ByHand:
        """Itself."""
        return self

    def close(self) -> None:
        """Close the channel."""
        if self.channel.up:
            self.channel.close("closed")

    # What a test does

    def connect(self) -> None:
        """Open the channel, and have a first heartbeat answered."""
        if not self.channel.up:
            self.open()
        self.beat()
        self.receive(1_000)

    def open(self) -> None:
        """Try to listen again, as the thread does."""
        try:
            Turns(self._keeper, self.channel)._open(self.channel, [(self, self.held)])
        except StoreError as error:
            self.channel.close(error.reason)

    def mend(self) -> None:
        """Renew leases and send what waits, as the thread does."""
        self.renew()
        if self._waits():
            self._try_to_flush(self.held)

    def beat(self) -> None:
        """Send a heartbeat."""
        self.channel.beat()

    def receive(self, count: int) -> None:
        """Let so many messages and answers through."""
        line = self.store.line
        if line is not None and self.channel.up:
            line.deliver = count
            failed = self.channel.read(line)
            assert not failed, failed

    def fork(self) -> None:
        """Be the child's: its thread begins anew, and so does its channel."""
        self.channel.abandon()
        self.after_fork_in_child()
        self.channel = HandChannel(self, self.store)


class HandChannel(Channel):
    """The channel of one cache; what it opens is confirmed at once."""

    def __init__(self, upkeep: Busy, store: WorldStore) -> None:
        ear, core = upkeep.ear, upkeep.core
        assert ear is not None
        assert core is not None
        super().__init__(store, core.local.now)
        self.join(ear)

    def open(self) -> bool:
        """Open, and empty the first tier."""
        other = super().open()
        for line in self.lines:
            assert not self.read(line)
        return other
