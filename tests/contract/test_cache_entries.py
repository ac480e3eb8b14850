"""Entries in a real Redis that somebody has tampered with are misses; values that were handed out may be changed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from backendkit.cache import (
    Cache,
    CachePolicy,
    JsonCodec,
    MsgpackCodec,
    PickleCodec,
    SealKeys,
    TypedCodec,
    Wire,
)
from backendkit.cache.decide.entry import parse
from backendkit.stores import connect
from tests.ground.single import Single

Open = Callable[..., Cache]
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
VALUE: dict[str, Any] = {"rows": [{"n": 1}, {"n": 2}], "text": "x" * 2_000}
MOST = 10_000
WIRES: dict[str, Callable[[], Wire]] = {
    "json": lambda: Wire(JsonCodec(), compress_over=None),
    "json-zlib": lambda: Wire(JsonCodec(), compress_over=100, most_bytes=MOST),
    "json-sealed": lambda: Wire(JsonCodec(), keys=SealKeys({"a": KEY})),
    "msgpack": lambda: Wire(MsgpackCodec()),
    "typed": lambda: Wire(TypedCodec(dict[str, Any])),
    "pickle": lambda: Wire(PickleCodec(), keys=SealKeys({"a": KEY})),
}


@pytest.fixture
def raw(redis_single: Single) -> Iterator[redis.Redis]:
    """Redis, without a cache around it."""
    with redis.Redis.from_url(redis_single.url) as client:
        yield client


@pytest.fixture
def open_cache(redis_single: Single, namespace: str) -> Iterator[Open]:
    """Make caches, each on a store of its own."""
    made: list[tuple[Cache, Any]] = []

    def one(codec: Wire, **options: Any) -> Cache:
        store = connect(redis_single.url, timeout=5, connect_timeout=5)
        cache = Cache(store, namespace=namespace[:-1], codec=codec, **options)
        made.append((cache, store))
        return cache

    yield one
    for cache, store in made:
        cache.close()
        store.close()


def name_of(cache: Cache, key: str) -> bytes:
    """Return the key of an entry in Redis."""
    return cache._core.names.keys(key)[0]


def payload_at(entry: bytes) -> int:
    """Return where the value begins, with the version of its format."""
    parsed = parse(entry)
    assert parsed is not None
    assert parsed.payload[0] == 1
    return len(entry) - len(parsed.payload)


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_an_entry_that_was_changed_is_a_miss(
    open_cache: Open, raw: redis.Redis, wire: Callable[[], Wire]
) -> None:
    """Cut, lengthened, with a byte of another version or mark, nonsense: it is loaded anew, and no caller hears of it."""
    writer, reader = open_cache(wire()), open_cache(wire())
    writer.set("k", VALUE, ttl=60)
    name = name_of(writer, "k")
    entry: Any = raw.get(name)
    payload = payload_at(entry)
    changed = {
        "empty": b"",
        "head alone": entry[:24],
        "cut in the meta": entry[: payload - 2],
        "cut": entry[:-1],
        "older version": entry[:payload] + b"\0" + entry[payload + 1 :],
        "newer version": entry[:payload] + b"\2" + entry[payload + 1 :],
        "another codec": entry[: payload + 1] + bytes([entry[payload + 1] ^ 0x70]) + entry[payload + 2 :],
        "another seal": entry[: payload + 1] + bytes([entry[payload + 1] ^ 0x01]) + entry[payload + 2 :],
        "nonsense": b"\xff" * 500,
    }  # fmt: skip
    for what, bad in changed.items():
        raw.set(name, bad, ex=60)
        reader._local.flush()
        assert reader.get("k") is None, what
        assert reader.get_or_load("k", lambda what=what: what) == what  # type: ignore[misc] # its default is text
        raw.set(name, entry, ex=60)
        reader._local.flush()
        assert reader.get("k") == VALUE


@pytest.mark.parametrize("wire", ["json-sealed", "pickle"])
def test_a_sealed_entry_is_believed_only_where_it_was_written(
    open_cache: Open, raw: redis.Redis, wire: str
) -> None:
    """Copied to another key, sealed with a key that nobody has, of another namespace's version, or changed: a miss."""
    writer, reader = open_cache(WIRES[wire]()), open_cache(WIRES[wire]())
    codec = JsonCodec() if wire == "json-sealed" else PickleCodec()
    forger = open_cache(Wire(codec, keys=SealKeys({"a": OTHER})))
    writer.set_many({"k": VALUE, "other": {"n": 2}}, ttl=60)
    name, entry = name_of(writer, "k"), raw.get(name_of(writer, "k"))
    assert isinstance(entry, bytes)
    forger.set("k", {"n": 3}, ttl=60)
    resigned = raw.get(name)
    copied = raw.get(name_of(writer, "other"))
    flipped = [entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :] for at in (payload_at(entry) + 2, 80, -20, -1)]  # fmt: skip
    for bad in (resigned, copied, *flipped):
        assert isinstance(bad, bytes)
        raw.set(name, bad, ex=60)
        reader._local.flush()
        assert reader.get("k") is None
    raw.set(name, entry, ex=60)
    assert reader.get("k") == VALUE


def test_a_bomb_is_refused(open_cache: Open, raw: redis.Redis) -> None:
    """A few bytes that would become a gigabyte are a miss, and never grow."""
    cache = open_cache(WIRES["json-zlib"]())
    cache.set("k", VALUE, ttl=60)
    name = name_of(cache, "k")
    entry: Any = raw.get(name)
    engine = zlib.compressobj(9)
    bomb = b"".join(engine.compress(b" " * (1 << 20)) for _ in range(64)) + engine.flush()
    raw.set(name, entry[: payload_at(entry) + 2] + bomb, ex=60)
    cache._local.flush()
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "anew") == "anew"


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("l1_ttl", [None, 0.001])
def test_changing_what_was_handed_out_changes_nothing(
    open_cache: Open, wire: Callable[[], Wire], l1_ttl: float | None
) -> None:
    """Neither what the loader returned, nor what any way of reading did; out of either tier."""
    policy = CachePolicy(ttl=60, l1_ttl=l1_ttl, beta=0)
    cache, other = open_cache(wire(), policy=policy), open_cache(wire(), policy=policy)
    source = {"rows": [{"n": 1}], "text": "x" * 2_000}
    wanted = {"rows": [{"n": 1}], "text": "x" * 2_000}
    first = cache.get_or_load("k", lambda: source)
    spoil(source)
    spoil(first)
    ways: tuple[Callable[[Cache], Any], ...] = (
        lambda each: each.get("k"),
        lambda each: each.get_or_load("k", lambda: "never"),
        lambda each: each.get_many(["k"])["k"],
        lambda each: each.get_or_load_many(["k", "k"], lambda _: {})[0],
    )
    for each in (cache, other, cache, other):
        for way in ways:
            found = way(each)
            assert found == wanted
            spoil(found)
    given = {"rows": [{"n": 1}], "text": "x" * 2_000}
    cache.set("k", given)
    spoil(given)
    assert cache.get("k") == wanted


def spoil(value: Any) -> None:
    """Change it as deep as it goes."""
    if value.get("rows"):
        value["rows"][0]["n"] = "spoilt"
        value["rows"].append("spoilt")
    value["text"] = "spoilt"
