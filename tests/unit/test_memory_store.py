"""The memory store: one state behind two faces, expiry in passing, room where there is any."""

import asyncio
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from backendkit.core.clock import ManualClock, SystemClock
from backendkit.core.errors import InvalidArgument, StoreClosed, StoreFull
from backendkit.core.operation import DELETE, KEEP, Change, Operation, Reply, Script, State, Write
from backendkit.core.outcome import Error
from backendkit.stores import MemoryStore
from backendkit.stores.memory import _ENTRY_BYTES
from backendkit.stores.wheel import CHUNK
from tests.ground.loops import in_fork, in_threads

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


def _fold_write(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    writes: list[Write] = []
    reply: Reply = [0 if state is None else len(state) + 1 for state in states]
    for state, (verb, size, ttl_us) in zip(states, args, strict=True):
        if verb == "put":
            writes.append((b"x" * size, ttl_us))
        elif verb == "grow":
            grown = state if state is not None else []
            grown.extend([0] * size)
            writes.append((grown, ttl_us))
        else:
            writes.append(DELETE if verb == "delete" else KEEP)
    return Change(writes, reply)


WRITE = Script("write", lua="", fold=_fold_write)
CACHE = Script("cache", lua="", fold=_fold_write, evictable=True)


def raw(reply: Reply) -> Reply:
    """Read a reply as it is."""
    return reply


def doing(script: Script, *changes: tuple[bytes, str, int, int]) -> Operation[Reply]:
    """Return an operation that puts, grows, deletes or keeps each of several keys."""
    arguments: Any = [change[1:] for change in changes]
    return Operation(script, tuple(change[0] for change in changes), arguments, raw)


def put(
    key: bytes, size: int = 1, ttl_us: int = DAY_US, script: Script = WRITE
) -> Operation[Reply]:
    """Write so many bytes."""
    return doing(script, (key, "put", size, ttl_us))


def cache(key: bytes, size: int = 1, ttl_us: int = DAY_US) -> Operation[Reply]:
    """Write so many bytes, which a full store may drop."""
    return put(key, size, ttl_us, CACHE)


def grow(key: bytes, by: int, ttl_us: int = DAY_US) -> Operation[Reply]:
    """Let a list grow in place."""
    return doing(WRITE, (key, "grow", by, ttl_us))


def delete(key: bytes) -> Operation[Reply]:
    """Remove a key."""
    return doing(WRITE, (key, "delete", 0, 0))


def size_of(store: MemoryStore, *keys: bytes) -> list[int]:
    """Return the length of each key's state, or -1 where there is none."""
    look = [doing(WRITE, (key, "keep", 0, 0)) for key in keys]
    return [int(store.run(operation)[0]) - 1 for operation in look]


def audit(store: MemoryStore) -> None:
    """Count everything again, and compare with what the store believes."""
    entries = {key: entry for shard in store._shards for key, entry in shard.items()}
    listed = {
        key: chunk
        for bucket in store._wheel.buckets.values()
        for chunk in bucket
        for key in chunk.keys
    }
    assert store.stats().entries == len(entries)
    assert store.stats().bytes == sum(entry[2] for entry in entries.values())
    assert listed == {key: entry[3] for key, entry in entries.items()}
    assert all(entry[1] <= entry[3].due for entry in entries.values()), "nothing goes early"
    for due, bucket in store._wheel.buckets.items():
        assert all(chunk.due == due and 0 < len(chunk.keys) <= CHUNK for chunk in bucket)
    assert sorted(store._wheel.buckets) == sorted(store._wheel.due)
    assert store._wheel.due[:1] == sorted(store._wheel.due)[:1]
    assert set(store._evictable) <= set(entries)
    for key, (state, _, nbytes, _) in entries.items():
        assert nbytes == _ENTRY_BYTES + len(key) + WRITE.weigh(state)


@pytest.fixture
def clock() -> ManualClock:
    """Time that passes when told."""
    return ManualClock()


@pytest.fixture
def small(clock: ManualClock) -> Iterator[MemoryStore]:
    """A store for four entries, audited at the end."""
    store = MemoryStore(max_entries=4, clock=clock)
    yield store
    audit(store)


def test_both_faces_hold_one_state() -> None:
    """What one writes the other reads."""
    store = MemoryStore()
    asyncio.run(store.aio.run(put(b"a", 3)))
    assert size_of(store, b"a") == [3]
    (outcome,) = asyncio.run(store.aio.run_many([put(b"a", 4)]))
    assert outcome.unwrap() == [4]
    assert store.aio.sync is store
    assert store.route(put(b"a")) == "memory"


def test_the_clock_is_the_machines_unless_one_is_given(clock: ManualClock) -> None:
    """Features share it."""
    assert isinstance(MemoryStore().clock, SystemClock)
    assert MemoryStore(clock=clock).clock is clock


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_entries": 0}, "max_entries must be in 1"),
        ({"max_entries": "5"}, "max_entries must be a whole number"),
        ({"max_bytes": 1023}, "max_bytes must be in 1024"),
        ({"max_bytes": 1e9}, "max_bytes must be a whole number"),
    ],
)
def test_a_wrong_bound_is_named(options: dict[str, Any], said: str) -> None:
    """When the store is made."""
    with pytest.raises(InvalidArgument, match=said):
        MemoryStore(**options)


def test_a_closed_store_holds_nothing() -> None:
    """And refuses on both faces."""
    store = MemoryStore()
    store.run(cache(b"a"))
    asyncio.run(store.aio.close())
    assert (store.stats().entries, store.stats().bytes) == (0, 0)
    with pytest.raises(StoreClosed):
        store.run(put(b"a"))
    with pytest.raises(StoreClosed):
        asyncio.run(store.aio.run(put(b"a")))
    audit(store)


def test_a_store_starts_no_thread() -> None:
    """Nor a timer: what has expired goes in passing."""
    before = threading.enumerate()
    store = MemoryStore(max_entries=10)
    for number in range(100):
        store.run(cache(b"%d" % number))
    assert threading.enumerate() == before


def test_a_batch_tells_a_refusal_as_an_outcome() -> None:
    """And goes on."""
    store = MemoryStore(max_entries=1)
    one, two, three = store.run_many([put(b"a"), put(b"b"), put(b"a")])
    assert isinstance(two, Error)
    assert isinstance(two.error, StoreFull)
    assert (one.unwrap(), three.unwrap()) == ([0], [2])


@pytest.mark.parametrize("keys", [(b"a",), (b"a", b"b")])
def test_a_fold_that_only_looks_needs_no_list_of_writes(keys: tuple[bytes, ...]) -> None:
    """No writes mean KEEP for every key."""
    look = Script("look", lua="", fold=lambda states, *_: Change((), [len(states)]))
    store = MemoryStore()
    store.run(put(b"a", 3))
    assert store.run(Operation(look, keys, (), raw)) == [len(keys)]
    assert size_of(store, *keys) == [3, -1][: len(keys)]


# Room


def test_who_only_looks_drops_nothing(small: MemoryStore) -> None:
    """Also at the bound, at what is there and at what is not."""
    keys = [b"a", b"b", b"c", b"d"]
    for key in keys:
        small.run(cache(key))
    small.run(doing(WRITE, *((key, "keep", 0, 0) for key in (*keys, b"e", b"f"))))
    assert size_of(small, *keys, b"e") == [1, 1, 1, 1, -1]
    assert small.stats().evicted == 0


def test_a_full_store_refuses_and_says_what_helps(small: MemoryStore) -> None:
    """What it holds may not be forgotten; what is there may still be written and deleted."""
    for key in (b"a", b"b", b"c", b"d"):
        small.run(put(key))
    with pytest.raises(
        StoreFull,
        match=r"holds 4 entries and about \d+ bytes; its bounds are 4 and \d+\nTo fix it: raise",
    ):
        small.run(put(b"e"))
    assert size_of(small, b"a", b"b", b"c", b"d", b"e") == [1, 1, 1, 1, -1]
    small.run(put(b"a", 9))
    small.run(delete(b"b"))
    small.run(put(b"e"))
    assert size_of(small, b"a", b"b", b"e") == [9, -1, 1]


def test_what_has_expired_goes_first(small: MemoryStore, clock: ManualClock) -> None:
    """Before anything that may be dropped."""
    small.run(put(b"short", ttl_us=SECOND_US))
    small.run(cache(b"old"))
    small.run(cache(b"new"))
    small.run(put(b"kept"))
    clock.advance(3 * SECOND_US)
    small.run(put(b"more"))
    assert size_of(small, b"short", b"old", b"new", b"kept", b"more") == [-1, 1, 1, 1, 1]
    assert small.stats().evicted == 0


def test_what_may_be_dropped_goes_oldest_first(small: MemoryStore) -> None:
    """And never what may not, however old."""
    for key in (b"first", b"second"):
        small.run(put(key))
    for key in (b"old", b"new"):
        small.run(cache(key))
    small.run(put(b"x"))
    assert (size_of(small, b"old", b"new"), small.stats().evicted) == ([-1, 1], 1)
    small.run(put(b"y"))
    assert (size_of(small, b"old", b"new"), small.stats().evicted) == ([-1, -1], 2)
    with pytest.raises(StoreFull):
        small.run(cache(b"z"))
    assert size_of(small, b"first", b"second", b"x", b"y") == [1, 1, 1, 1]


@pytest.mark.parametrize("ttl_us", [DAY_US, 2 * DAY_US], ids=["same second", "another"])
@pytest.mark.parametrize("full", [False, True])
def test_the_last_writer_says_whether_a_key_may_be_dropped(
    clock: ManualClock, ttl_us: int, *, full: bool
) -> None:
    """A limit that took over a cached key is a limit, and the other way round."""
    store = MemoryStore(max_entries=2 if full else 3, clock=clock)
    store.run(cache(b"limit"))
    store.run(put(b"cached"))
    store.run(put(b"limit", 2, ttl_us))
    store.run(cache(b"cached", 2, ttl_us))
    for number in range(3):
        store.run(cache(b"more%d" % number))
    assert size_of(store, b"limit", b"cached") == [2, -1]
    audit(store)


def test_keys_of_the_operation_are_not_dropped_for_it(clock: ManualClock) -> None:
    """Neither for another key of it nor for itself."""
    store = MemoryStore(max_entries=2, clock=clock)
    store.run(cache(b"a"))
    store.run(cache(b"b"))
    assert store.run(doing(CACHE, (b"a", "keep", 0, 0), (b"b", "put", 5, DAY_US))) == [2, 2]
    assert size_of(store, b"a", b"b") == [1, 5]
    audit(store)


def test_what_an_operation_deletes_is_room_for_what_it_writes(clock: ManualClock) -> None:
    """A rename needs no third place."""
    store = MemoryStore(max_entries=1, max_bytes=1024, clock=clock)
    store.run(put(b"a", 500))
    store.run(doing(WRITE, (b"a", "delete", 0, 0), (b"b", "put", 500, DAY_US)))
    assert size_of(store, b"a", b"b") == [-1, 500]
    store.run(
        doing(WRITE, (b"a", "put", 500, DAY_US), (b"b", "delete", 0, 0), (b"c", "delete", 0, 0))
    )
    assert size_of(store, b"a", b"b") == [500, -1]
    audit(store)


def test_the_bound_in_bytes_holds(clock: ManualClock) -> None:
    """By what entries weigh; for what alone is larger nothing is dropped."""
    store = MemoryStore(max_bytes=2048, clock=clock)
    store.run(cache(b"a", 500))
    store.run(cache(b"b", 500))
    with pytest.raises(StoreFull):
        store.run(cache(b"c", 2_000))
    assert size_of(store, b"a", b"b") == [500, 500]
    store.run(cache(b"c", 900))
    assert size_of(store, b"a", b"b", b"c") == [-1, -1, 900]
    assert store.stats().bytes <= 2048
    audit(store)


def test_a_write_to_a_key_whose_entry_expires_meanwhile_keeps_the_bounds(
    clock: ManualClock,
) -> None:
    """Making room may find the very entry that is being replaced."""
    store = MemoryStore(max_bytes=8_192, max_entries=100, clock=clock)
    for number in range(18):
        store.run(put(b"%02d" % number, 60, SECOND_US))
    clock.advance(5 * SECOND_US)
    store.run(doing(WRITE, *((b"%02d" % number, "put", 1_500, DAY_US) for number in range(4))))
    assert store.stats().bytes <= 8_192
    audit(store)


@pytest.mark.parametrize("keys", [1, 2])
def test_a_refusal_changes_nothing_though_the_fold_did(clock: ManualClock, keys: int) -> None:
    """A full store hands out copies."""
    store = MemoryStore(max_bytes=1_500, clock=clock)
    names = [b"a", b"b"][:keys]
    for name in names:
        store.run(grow(name, 5))
    while store.stats().bytes <= 1_500:
        store.run(doing(WRITE, *((name, "grow", 1, DAY_US) for name in names)))
    before = size_of(store, *names)
    stats = store.stats()
    with pytest.raises(StoreFull):
        store.run(doing(WRITE, *((name, "grow", 1, DAY_US) for name in names)))
    assert size_of(store, *names) == before
    assert (store.stats().entries, store.stats().bytes) == (stats.entries, stats.bytes)
    audit(store)


def test_a_state_that_needs_no_further_entry_is_not_copied(clock: ManualClock) -> None:
    """At the bound of entries, hits on long logs go on as quickly as before: nothing can be refused."""
    store = MemoryStore(max_entries=1, clock=clock)
    store.run(grow(b"a", 5))
    seen: list[object] = []

    def look(states: Sequence[Any], now: int, args: Sequence[Any]) -> Change:
        seen.append(states[0])
        return Change((), [1])

    for _ in range(2):
        store.run(Operation(Script("look", lua="", fold=look), (b"a",), (), len))
    assert seen[0] is seen[1]
    with pytest.raises(StoreFull):
        store.run(put(b"b", 1))


def test_growth_in_place_passes_the_bound_once(clock: ManualClock) -> None:
    """There is no way back for a state that the fold has changed; from then on it is refused."""
    store = MemoryStore(max_bytes=1_024, clock=clock)
    store.run(grow(b"a", 5))
    store.run(grow(b"a", 100))
    assert store.stats().bytes > 1_024
    with pytest.raises(StoreFull):
        store.run(grow(b"a", 1))
    assert size_of(store, b"a") == [105]
    store.run(put(b"a", 1))
    assert store.stats().bytes < 1_024
    audit(store)


def test_a_smaller_state_is_taken_where_there_is_no_room(clock: ManualClock) -> None:
    """It makes some."""
    store = MemoryStore(max_entries=1, max_bytes=1_024, clock=clock)
    store.run(put(b"a", 600))
    store.run(put(b"a", 599))
    assert size_of(store, b"a") == [599]
    audit(store)


# Expiry


def test_expired_entries_go_a_few_with_each_write(clock: ManualClock) -> None:
    """No write pays for all of them, and all go in the end."""
    store = MemoryStore(clock=clock)
    for number in range(1_000):
        store.run(put(b"%d" % number, ttl_us=SECOND_US))
    clock.advance(3 * SECOND_US)
    entries = 1_000
    for number in range(200):
        store.run(put(b"new%d" % number))
        left = store.stats().entries
        assert left >= entries - 8
        entries = left
    assert store.stats().entries == 200
    audit(store)


def test_a_bucket_of_many_is_emptied_in_constant_time_each() -> None:
    """Structure, not time: the last key of a chunk goes, so that no holes are searched."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    for number in range(1_000):
        store.run(put(b"%d" % number, ttl_us=SECOND_US))
    ((chunk,),) = store._wheel.buckets.values()
    clock.advance(3 * SECOND_US)
    order = list(chunk.keys)
    store.run(put(b"x"))
    assert list(chunk.keys) == order[:-8]


def test_no_dictionary_grows_with_the_number_of_keys(clock: ManualClock) -> None:
    """A hundred thousand keys that expire in one moment: growing would stall whoever is there."""
    store = MemoryStore(clock=clock)
    for number in range(100_000):
        store.run(put(b"%d" % number, ttl_us=60 * SECOND_US))
    chunks = [chunk for bucket in store._wheel.buckets.values() for chunk in bucket]
    assert max(len(chunk.keys) for chunk in chunks) <= CHUNK
    assert max(len(shard) for shard in store._shards) < 1_000
    assert len(chunks) < 110
    audit(store)


def test_lives_of_every_length_need_few_buckets(clock: ManualClock) -> None:
    """Their number does not grow with the keys or with their times; nothing goes early, or late by a 32nd."""
    store = MemoryStore(clock=clock)
    chance = random.Random(7)
    for number in range(20_000):
        clock.advance(chance.choice([0, 1_000, SECOND_US]))
        ttl_us = round(2 ** chance.uniform(0, 46))
        store.run(put(b"%d" % number, ttl_us=ttl_us))
        entry = store._shards[hash(b"%d" % number) & 255][b"%d" % number]
        assert 0 <= entry[3].due - entry[1] <= max(2**20, ttl_us / 32)
    assert len(store._wheel.buckets) < 1_800
    audit(store)


def test_a_key_that_is_rewritten_for_a_day_leaves_no_buckets_behind(clock: ManualClock) -> None:
    """It moves a few dozen times in its life, and what it has left goes when its time comes."""
    store = MemoryStore(clock=clock)
    store.run(put(b"other", ttl_us=DAY_US))
    for _ in range(10_000):
        clock.advance(2 * SECOND_US)
        store.run(put(b"a", ttl_us=30 * DAY_US))
    assert len(store._wheel.buckets) < 5
    clock.advance(40 * DAY_US)
    for number in range(2_000):
        store.run(put(b"%d" % (number % 2)))
    assert size_of(store, b"a", b"other", b"0", b"1") == [-1, -1, 1, 1]
    assert len(store._wheel.buckets) == 1
    audit(store)


def test_a_chunk_that_most_have_left_is_laid_out_anew(clock: ManualClock) -> None:
    """One who stays does not keep the room of a thousand who went."""
    store = MemoryStore(clock=clock)
    for number in range(CHUNK):
        store.run(put(b"%d" % number, ttl_us=DAY_US))
    ((chunk,),) = store._wheel.buckets.values()
    full = sys.getsizeof(chunk.keys)
    for number in range(1, CHUNK):
        store.run(put(b"%d" % number, ttl_us=9 * DAY_US))
    assert list(chunk.keys) == [b"0"]
    assert sys.getsizeof(chunk.keys) * 16 <= full
    audit(store)


def test_a_bucket_that_was_left_is_in_nobodys_way(clock: ManualClock) -> None:
    """What expires after it goes as well."""
    store = MemoryStore(clock=clock)
    store.run(put(b"moved", ttl_us=SECOND_US))
    store.run(put(b"moved", ttl_us=DAY_US))
    store.run(put(b"gone", ttl_us=3 * SECOND_US))
    assert len(store._wheel.buckets) == 3
    clock.advance(6 * SECOND_US)
    store.run(put(b"new"))
    assert store.stats().entries == 2
    assert size_of(store, b"moved", b"gone", b"new") == [1, -1, 1]
    audit(store)


def test_a_hundred_thousand_keys_never_remove_more_than_a_few_at_once(clock: ManualClock) -> None:
    """At the bound in entries, with expired ones, ones that may be dropped, and ones that may not."""
    store = MemoryStore(max_entries=50_000, clock=clock)
    chance = random.Random(7)
    for number in range(100_000):
        clock.advance(20)
        before = store.stats().entries
        kind = number % 8
        if kind:
            store.run(cache(b"%d" % number, ttl_us=chance.choice([SECOND_US, DAY_US])))
        else:
            store.run(put(b"%d" % number, ttl_us=SECOND_US // 2))
        assert before - 16 <= store.stats().entries <= 50_000
    assert max(len(shard) for shard in store._shards) < 500
    audit(store)


# Together


def test_no_change_of_a_thread_is_lost() -> None:
    """However the interpreter cuts in."""
    store = MemoryStore(max_entries=64)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        in_threads(8, lambda _: [store.run(grow(b"k%d" % (i % 4), 1)) for i in range(400)])
    finally:
        sys.setswitchinterval(interval)
    assert size_of(store, b"k0", b"k1", b"k2", b"k3") == [800] * 4
    audit(store)


def test_a_fork_cuts_no_change_in_two() -> None:
    """However busy other threads are: the child finds each state as a fold has left it, and goes on."""

    def fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
        pair: list[int] = states[0] or [0, 0]
        seen = int(pair[0] == pair[1])
        pair[0] += 1
        for _ in range(50):
            pass  # where another thread may come in
        pair[1] += 1
        return Change(((pair, DAY_US),), [seen])

    both = Script("both", lua="return {1}", fold=fold)
    operation = Operation(both, (b"pair",), (), read=list)
    store = MemoryStore()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            store.run(operation)

    busy = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in busy:
            thread.start()
        seen = [in_fork(lambda: store.run(operation)) for _ in range(25)]
    finally:
        done.set()
        for thread in busy:
            thread.join()
        sys.setswitchinterval(interval)
    assert seen == [[1]] * 25
    assert store.run(operation) == [1]


def test_folds_of_other_threads_wait_their_turn() -> None:
    """A fold sees states that nobody else changes meanwhile."""
    inside = threading.Lock()

    def fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
        assert inside.acquire(blocking=False)
        time.sleep(0)
        inside.release()
        return Change(((1, DAY_US),), [])

    store = MemoryStore()
    alone = Script("alone", lua="", fold=fold)
    in_threads(8, lambda n: [store.run(Operation(alone, (b"%d" % n,), (), raw)) for _ in range(50)])
