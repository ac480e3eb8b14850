"""Reading many values at once: whatever way a store takes, it answers as the script would."""

from __future__ import annotations

from typing import Any

from backendkit.core.clock import ManualClock
from backendkit.core.errors import StoreUnavailable
from backendkit.core.look import ABSENT, LOOK, UNSAID, Sight, gathering, look
from backendkit.core.operation import Operation, Script
from backendkit.core.outcome import Error, Value
from backendkit.stores import connect
from tests.contract import reference as ref
from tests.ground.single import Single
from tests.ground.stores import Bench, Driver

MANY = 600
"""More than go in one group."""


def seen(driver: Driver, keys: list[bytes]) -> list[Any]:
    """Return what lies under keys, group by group, in one batch."""
    groups = gathering(driver.store)(keys)
    found: dict[int, Any] = {}
    outcomes = driver.run_many([look([keys[place] for place in group]) for group in groups])
    for group, outcome in zip(groups, outcomes, strict=True):
        assert isinstance(outcome, Value)
        assert outcome.value.now == driver.clock.wall_us()
        found |= dict(zip(group, outcome.value.values, strict=True))
    return [found[place] for place in range(len(keys))]


def test_it_sees_what_is_there(driver: Driver, clock: ManualClock) -> None:
    """Values as they are, in order, with the server's time; keys need not be related."""
    keys = [driver.key(name) for name in "abcd"]
    driver.run(ref.put(keys[0], b"one"))
    driver.run(ref.put(keys[2], b"\r\n\x00\xff" * 30_000))
    assert driver.run(look(keys[:1])) == Sight(clock.wall_us(), [b"one"])
    assert driver.run(look(keys[1:2])) == Sight(clock.wall_us(), [ABSENT])
    assert seen(driver, keys) == [b"one", ABSENT, b"\r\n\x00\xff" * 30_000, ABSENT]
    driver.run(ref.drop(keys[0]))
    assert seen(driver, [keys[0], keys[0]]) == [ABSENT, ABSENT]


def test_many_are_seen_in_few_operations(driver: Driver) -> None:
    """Groups of a good size: as many as there are servers, once the owners are known."""
    keys = [driver.key(str(number)) for number in range(MANY)]
    driver.run_many([ref.put(key, key) for key in keys])
    assert seen(driver, keys) == keys
    assert len(gathering(driver.store)(keys)) <= 6
    assert sorted(place for group in gathering(driver.store)(keys) for place in group) == list(
        range(MANY)
    )
    assert gathering(driver.store)([]) == []


def test_it_travels_with_scripts(driver: Driver) -> None:
    """In one batch with others each gets its own answer."""
    keys = [driver.key(name) for name in "abc"]
    for key in keys[:2]:
        driver.run(ref.put(key, b"one"))
    batch: list[Operation[Any]] = [
        ref.look(keys[0]),
        look(keys[:1]),
        ref.put(keys[2], b"two"),
        look(keys[1:2]),
    ]
    outcomes = driver.run_many(batch)
    values = [outcome.value for outcome in outcomes if isinstance(outcome, Value)]
    assert [values[0], values[1].values, values[2], values[3].values] == [
        [1, b"one"], [b"one"], [0], [b"one"],
    ]  # fmt: skip


def test_both_spellings_of_the_script_agree(driver: Driver) -> None:
    """A store that knows no plain reads runs it as any script."""
    keys = [driver.key(name, tag="t") for name in "ab"]
    driver.run(ref.put(keys[0], b"one"))
    script = Script("look.copy", lua=LOOK.lua, fold=LOOK.fold)
    reply = driver.run(Operation(script, tuple(keys), (), list))
    assert reply == [driver.clock.wall_us(), b"one", ABSENT]


def test_it_counts_as_one_operation(bench: Bench) -> None:
    """However many keys it has."""
    for colour in ("sync", "async"):
        with bench.driver("single", colour) as driver:
            keys = [driver.key(str(number)) for number in range(5)]
            driver.run(look(keys))
            before = driver.store.stats()
            driver.run(look(keys))
            after = driver.store.stats()
            assert after.operations == before.operations + 1
            assert after.batches == before.batches + 1


def test_what_a_server_refuses_is_unsaid(
    bench: Bench, redis_single: Single, namespace: str
) -> None:
    """A user who may not read so, or a key that holds something else; a script finds out why."""
    command, port = redis_single.server.command, redis_single.server.port
    keys = [f"{namespace}{name}".encode() for name in "ab"]
    for rights, values in (
        ("-mget", [UNSAID] * 2),
        ("-time", [UNSAID] * 2),
        ("-get", [ABSENT] * 2),
    ):
        command("ACL", "SETUSER", "looker", "reset", "on", ">pass", "~*", "+@all", rights)
        store = connect(f"redis://looker:pass@127.0.0.1:{port}", timeout=10)
        assert store.run(look(keys)).values == values
        assert store.run(look(keys[:1])).values == [ABSENT if rights == "-mget" else UNSAID]
        store.close()
    command("ACL", "DELUSER", "looker")
    with bench.driver("single", "sync") as driver:
        key = driver.key("list")
        command("RPUSH", key, b"x")
        assert driver.run(look([key])).values == [UNSAID]
        assert driver.run(look([key, driver.key("no")])).values == [ABSENT, ABSENT]


def test_on_a_cluster_whose_slots_are_not_known_it_says_nothing_at_worst(bench: Bench) -> None:
    """Grouped by slots, it goes on as soon as somebody has learnt; grouped by nodes of yesterday, it is unsaid."""
    for colour in ("sync", "async"):
        with bench.driver("cluster", colour) as driver:
            keys = [driver.key(str(number)) for number in range(20)]
            assert len(gathering(driver.store)(keys)) == len(keys)
            assert driver.run(look(keys[:1])).values == [UNSAID]
            assert driver.run(ref.put(keys[0], b"one")) == [0]
            assert driver.run(look(keys[:1])).values == [b"one"]
            wrong = driver.run(look(keys))  # of several nodes: those of others are refused
            assert wrong.values[0] == b"one"
            assert UNSAID in wrong.values
            guarded: Any = driver.store
            guarded.store._shared.topology.suspect()
            assert driver.run(look(keys)).values == [UNSAID] * len(keys)


def test_a_server_that_is_not_there_is_an_error() -> None:
    """As of any operation."""
    store = connect("redis://127.0.0.1:1", connect_timeout=0.2)
    [outcome] = store.run_many([look([b"a", b"b"])])
    assert isinstance(outcome, Error)
    assert isinstance(outcome.error, StoreUnavailable)
    store.close()
