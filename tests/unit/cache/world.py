"""A fleet in one process: a second tier of the scripts' own folds, and a channel that a test may disturb."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from backendkit.cache.channel import Channel, Ear
from backendkit.cache.core import Core
from backendkit.cache.decide import tier
from backendkit.cache.face import Cache
from backendkit.cache.keeper import Keeper
from backendkit.cache.upkeep import Busy
from backendkit.core.clock import ManualClock
from backendkit.core.errors import OutcomeUnknown, StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import StoreStats
from backendkit.stores import MemoryStore


class World:
    """One server, and every cache that uses it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.server = MemoryStore(clock=clock)
        self.identity = b"one"
        self.lines: list[WorldLine] = []
        self.caches: list[Cache] = []
        self.meant: dict[bytes, tuple[int, tuple[str, ...]]] = {}
        """What messages are about: when their invalidation began, by the test's own count, and its keys."""
        self.ran: dict[str, int] = defaultdict(int)
        """When the last invalidation of a key began that has run here."""
        self.current: tuple[int, tuple[str, ...]] | None = None
        """What the flow that is stepped now removes."""

    def cache(self, **options: Any) -> Cache:
        """Return a cache whose channel is open, and moves only when a test says so."""
        store = WorldStore(self)
        cache = Cache(store, **options)
        core = cache._core
        core.upkeep = ByHand(core, store)
        core.upkeep.connect()
        self.caches.append(cache)
        return cache

    def publish(self, operation: Operation[Any], reply: list[Any]) -> None:
        """Send a script's message to all who listen, if it has published one."""
        if self.current is not None and operation.script is tier.INVALIDATE:
            for key in self.current[1]:
                self.ran[key] = max(self.ran[key], self.current[0])
        if operation.script.name.startswith("cache.") and reply[-1] == 1:
            if self.current is not None:
                self.meant[bytes(operation.args[-1])] = self.current
            for line in self.lines:
                line.inbox.append(operation.args[-1])


class WorldStore:
    """The world's server as one process sees it: it may be cut off, or its answers lost."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cut = False
        self.deaf = False
        self.aio: Any = _Awaited(self)
        self.line: WorldLine | None = None

    @property
    def clock(self) -> ManualClock:
        """The world's."""
        return self.world.clock

    def run(self, operation: Operation[Any]) -> Any:
        """Run it, publish, answer."""
        if self.cut:
            raise StoreUnavailable("cut off")
        raw = Operation(operation.script, operation.keys, operation.args, lambda reply: reply)
        reply = self.world.server.run(raw)
        self.world.publish(operation, reply)
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
        self.channel = HandChannel(core, store)

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
        if not self.channel.up and self.channel.open():
            self.replay(self.held)
        self.beat()
        self.receive(1_000)

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


class HandChannel(Channel):
    """The channel of one cache; what it opens is confirmed at once."""

    def __init__(self, core: Core, store: WorldStore) -> None:
        super().__init__(store, core.local.now)
        self.join(Ear(core))

    def open(self) -> bool:
        """Open, and empty the first tier."""
        other = super().open()
        for line in self.lines:
            assert not self.read(line)
        return other
