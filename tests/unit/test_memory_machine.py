"""The memory store against a slow model, over random histories at narrow bounds.

The model knows what every key must hold, when it expires, and whether it may be dropped. It does not foresee which
entries a full store drops; it checks that each loss was allowed, and that each refusal was necessary.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from backendkit.core.clock import ManualClock
from backendkit.core.errors import StoreFull
from backendkit.core.operation import Operation, Script
from backendkit.stores import MemoryStore
from tests.unit.test_memory_store import CACHE, WRITE, audit, doing

MAX_ENTRIES = 5
MAX_BYTES = 3_000
ENTRY_BYTES = 300

KEYS = [b"a", b"bb", b"ccc", b"dddd", b"eeeee", b"ffffff", b"ggggggg"]

keys = st.sampled_from(KEYS)
sizes = st.sampled_from([0, 1, 200, 900, 2_500, 4_000])
lives = st.sampled_from([1, 500_000, 1_000_000, 5_000_000, 100_000_000])
scripts = st.sampled_from([WRITE, CACHE])
changes = st.tuples(st.sampled_from(["put", "put", "delete", "keep"]), sizes, lives)


@dataclass
class Held:
    """What the model says of one key."""

    size: int
    expires: int
    evictable: bool
    grown: bool = False


class Machine(RuleBasedStateMachine):
    """Plays on a small store."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(mono_us=7)
        self.store = MemoryStore(max_entries=MAX_ENTRIES, max_bytes=MAX_BYTES, clock=self.clock)
        self.model: dict[bytes, Held] = {}
        self.grown = False

    @rule(
        us=st.sampled_from([1, 400_000, 1_000_000, 3_000_000, 60_000_000]),
        step=st.integers(-(10**9), 10**9),
    )
    def time_passes(self, us: int, step: int) -> None:
        """And the date steps, which has no say."""
        self.clock.advance(us)
        self.clock.step_wall(step)

    @rule(
        script=scripts,
        work=st.dictionaries(keys, changes, min_size=1, max_size=3),
    )
    def change(self, script: Script, work: dict[bytes, tuple[str, int, int]]) -> None:
        """Put, delete and keep, on one key or several."""
        expected = [self.length(key) + 1 for key in work]
        self.play(script, work, doing(script, *((k, *c) for k, c in work.items())), expected)

    @rule(script=scripts, key=keys, by=st.sampled_from([1, 3, 60]), ttl_us=lives)
    def grow(self, script: Script, key: bytes, by: int, ttl_us: int) -> None:
        """Let a list grow in place; over a state of bytes, put one instead."""
        if isinstance(self.state(key), bytes):
            self.play(
                script, {key: ("put", by, ttl_us)}, doing(script, (key, "put", by, ttl_us)), None
            )
            return
        before = self.length(key)
        held = self.live(key)
        work = {key: ("grow", max(before, 0) + by, ttl_us)}
        self.grown = held is not None
        self.play(script, work, doing(script, (key, "grow", by, ttl_us)), [before + 1])
        self.grown = False

    @rule(key=keys)
    def look(self, key: bytes) -> None:
        """Reads nothing but the truth, and drops nothing, unless growth in place has passed the bound."""
        before = self.store.stats()
        (found,) = self.store.run(doing(WRITE, (key, "keep", 0, 0)))
        assert found == self.length(key) + 1
        self.forgive_losses({key})
        assert self.store.stats().evicted == before.evicted or before.bytes > MAX_BYTES

    def play(
        self,
        script: Script,
        work: dict[bytes, tuple[str, int, int]],
        operation: Operation[Any],
        expected: list[int] | None,
    ) -> None:
        """Run an operation, and bring the model to what it must have done."""
        bytes_before = self.store.stats().bytes
        try:
            reply = self.store.run(operation)
        except StoreFull:
            self.forgive_losses(set(work))
            assert self.is_refusal_due(work), "refused, though there was room"
            return
        if expected is not None:
            assert reply == expected
        now = self.clock.mono_us()
        for key, (verb, size, ttl_us) in work.items():
            if verb in {"put", "grow"}:
                self.model[key] = Held(size, now + ttl_us, script.evictable)
            elif verb == "delete":
                self.model.pop(key, None)
        self.forgive_losses(set(work))
        stats = self.store.stats()
        assert stats.entries <= MAX_ENTRIES
        if not self.grown:
            assert stats.bytes <= max(MAX_BYTES, bytes_before)

    def forgive_losses(self, spared: set[bytes]) -> None:
        """Let go of what the store has dropped, if it was allowed to."""
        for key in [key for key in self.model if self.state(key) is None]:
            held = self.model[key]
            if held.expires > self.clock.mono_us():
                assert held.evictable, f"{key!r} was forgotten"
                assert key not in spared, f"{key!r} was dropped for itself"
            del self.model[key]

    def is_refusal_due(self, work: dict[bytes, tuple[str, int, int]]) -> bool:
        """Whether the work does not fit beside what may not go: neither in a bucket whose time has passed nor to be dropped."""
        now = self.clock.mono_us()
        sizes = {
            key: self.weight(key)
            for key, entry in self.entries().items()
            if entry[3].due > now and key not in self.store._evictable
        }
        for key in work:  # the operation's own keys are spared, but what has expired of them
            if key in self.entries() and self.entries()[key][1] > now:
                sizes[key] = self.weight(key)
            else:
                sizes.pop(key, None)
        for key, (verb, size, _) in work.items():
            if verb == "put":
                sizes[key] = ENTRY_BYTES + len(key) + 56 + size
            elif verb == "grow":
                sizes[key] = ENTRY_BYTES + len(key) + 64 + 40 * size
            elif verb == "delete":
                sizes.pop(key, None)
        return len(sizes) > MAX_ENTRIES or sum(sizes.values()) > MAX_BYTES

    def live(self, key: bytes) -> Held | None:
        """Return what the model holds, unless it has expired."""
        held = self.model.get(key)
        return held if held is not None and held.expires > self.clock.mono_us() else None

    def length(self, key: bytes) -> int:
        """Return the length of a key's state by the model, or -1."""
        held = self.live(key)
        return -1 if held is None else held.size

    def entries(self) -> dict[bytes, Any]:
        """Return what lies in the store."""
        return {key: entry for shard in self.store._shards for key, entry in shard.items()}

    def weight(self, key: bytes) -> int:
        """Return what the store counts for a key."""
        weight: int = self.entries()[key][2]
        return weight

    def state(self, key: bytes) -> object:
        """Return what lies in the store under a key, expired or not."""
        entry = self.entries().get(key)
        return None if entry is None else entry[0]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Each live key has its length, its time and its mark; the books are right."""
        audit(self.store)
        for key in KEYS:
            held = self.live(key)
            if held is None:
                continue
            state: Any = self.state(key)
            assert state is not None, f"{key!r} was forgotten"
            assert len(state) == held.size
            assert self.entries()[key][1] == held.expires
            assert (key in self.store._evictable) == held.evictable


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMemoryStore = Machine.TestCase
