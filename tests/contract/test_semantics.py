"""What every store owes its callers, whatever the script: writes, times to live, batches, errors, the end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import CrossSlot, InvalidArgument, OutcomeUnknown, StoreClosed
from backendkit.core.operation import Change, Operation, Reply, Script
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.stores import MemoryStore, connect
from tests.contract import reference as ref
from tests.ground.servers import Server
from tests.ground.single import Single
from tests.ground.stores import COLOURS, Bench, Driver, Kind
from tests.ground.waiting import eventually
from tests.structure.lua import faults

GIVEN_MS = 60_000


def test_reference_scripts_keep_the_lua_rules() -> None:
    """They are models for features, and so pass the lint that features must pass."""
    assert {script.name: faults(script.lua) for script in ref.SCRIPTS} == {
        script.name: [] for script in ref.SCRIPTS
    }


def test_what_is_put_is_there_until_it_is_deleted(driver: Driver) -> None:
    """Put, look, delete, and each says what it found."""
    key = driver.key("cell")
    assert driver.run(ref.look(key)) == [0, b""]
    assert driver.run(ref.put(key, b"one")) == [0]
    assert driver.run(ref.put(key, b"two")) == [1]
    assert driver.run(ref.look(key)) == [1, b"two"]
    assert driver.run(ref.drop(key)) == [1]
    assert driver.run(ref.drop(key)) == [0]
    assert driver.run(ref.look(key)) == [0, b""]


def test_a_deleted_key_begins_anew(driver: Driver) -> None:
    """A counter that a transfer emptied is absent, and counts from nothing."""
    source, target = driver.key("source", tag="pair"), driver.key("target", tag="pair")
    driver.run(ref.add(source, 5))
    assert driver.run(ref.transfer(source, target, 5)) == [1, 0, 5]
    assert driver.run(ref.drop(source)) == [0]
    assert driver.run(ref.add(source, 2)) == [1, 2]


def test_a_check_that_fails_writes_nothing(driver: Driver) -> None:
    """All of a change or none of it, also over two keys."""
    source, target = driver.key("source", tag="pair"), driver.key("target", tag="pair")
    driver.run(ref.add(source, 5))
    assert driver.run(ref.transfer(source, target, 6)) == [0, 5, 0]
    assert driver.run(ref.drop(target)) == [0]
    assert driver.run(ref.add(source, 0)) == [1, 5]


def test_a_state_lives_as_long_as_it_was_given(bench: Bench, redis_single: Single) -> None:
    """Redis counts down the milliseconds that memory measures by its clock."""
    with bench.driver("single", "sync") as driver:
        driver.run(ref.put(driver.key("cell"), b"x", GIVEN_MS))
        left = redis_single.server.command("PTTL", driver.key("cell"))
        assert isinstance(left, int)
        assert GIVEN_MS - 10_000 < left <= GIVEN_MS


def test_a_state_is_gone_from_memory_at_its_time(bench: Bench, clock: ManualClock) -> None:
    """Not a microsecond before; the date, which may step, has no say in it."""
    with bench.driver("memory", "sync") as driver:
        key = driver.key("cell")
        driver.run(ref.put(key, b"x", GIVEN_MS))
        clock.step_wall(10 * GIVEN_MS * 1000)
        clock.advance(GIVEN_MS * 1000 - 1)
        assert driver.run(ref.look(key)) == [1, b"x"]
        clock.advance(1)
        assert driver.run(ref.look(key)) == [0, b""]
        assert driver.run(ref.put(key, b"y", GIVEN_MS)) == [0]


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_a_state_is_gone_from_redis_after_its_time(bench: Bench, kind: Kind, colour: Any) -> None:
    """A time to live of one millisecond is over at once."""
    with bench.driver(kind, colour) as driver:
        key = driver.key("cell")
        driver.run(ref.put(key, b"x", 1))
        eventually(lambda: driver.run(ref.look(key)) == [0, b""], "the cell has expired")


def test_looking_leaves_the_time_to_live(
    bench: Bench, clock: ManualClock, redis_single: Single
) -> None:
    """KEEP keeps it, on Redis and in memory."""
    with bench.driver("memory", "sync") as memory, bench.driver("single", "sync") as redis:
        for driver in (memory, redis):
            driver.run(ref.put(driver.key("cell"), b"x", GIVEN_MS))
        clock.advance(GIVEN_MS * 1000 - 1)
        for driver in (memory, redis):
            assert driver.run(ref.look(driver.key("cell"))) == [1, b"x"]
        clock.advance(1)
        assert memory.run(ref.look(memory.key("cell"))) == [0, b""]
        left = redis_single.server.command("PTTL", redis.key("cell"))
        assert isinstance(left, int)
        assert 0 < left <= GIVEN_MS


def test_a_put_gives_a_new_time_to_live(bench: Bench, clock: ManualClock) -> None:
    """Longer or shorter than the one before, in the same second or in another."""
    with bench.driver("memory", "sync") as driver:
        key = driver.key("cell")
        for ttl_ms in (GIVEN_MS, 10, 11, 2 * GIVEN_MS, 500):
            driver.run(ref.put(key, b"x", ttl_ms))
            clock.advance(ttl_ms * 1000 - 1)
            assert driver.run(ref.look(key)) == [1, b"x"]
        clock.advance(1)
        assert driver.run(ref.look(key)) == [0, b""]


def test_scripts_see_the_date_and_not_the_time_since_start(
    driver: Driver, clock: ManualClock
) -> None:
    """The store's one clock for folds is the wall clock, wherever it is set to."""
    key = driver.key("any")
    for step_us in (0, 5_000_000, -7_000_000_000):
        clock.step_wall(step_us)
        assert driver.run(ref.time(key)) == [clock.wall_us()]


@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_without_an_injected_clock_redis_tells_the_time(
    bench: Bench, kind: Kind, request: pytest.FixtureRequest
) -> None:
    """In microseconds, within the operation that asks."""
    url = request.getfixturevalue(f"redis_{kind}").url
    server: Server = request.getfixturevalue("redis_single").server
    store = connect(url, timeout=10)
    before, now, after = (
        told(server),
        store.run(ref.operation(ref.TIME, b"{any}"))[0],
        told(server),
    )
    store.close()
    assert isinstance(now, int)
    assert before <= now <= after


def told(server: Server) -> int:
    """Return what a server of this machine takes for now, in microseconds."""
    reply = server.command("TIME")
    assert isinstance(reply, list)
    seconds, micros = (int(part) for part in reply if isinstance(part, bytes))
    return seconds * 1_000_000 + micros


# Batches


def test_an_empty_batch_has_no_outcomes(driver: Driver) -> None:
    """And sends nothing."""
    assert driver.run_many([]) == []


def test_one_that_fails_does_not_stop_the_others(driver: Driver) -> None:
    """The outcomes keep their places, around errors of all sorts."""
    batch = [
        ref.add(driver.key("n1"), 1),
        ref.operation(RAISES, driver.key("r")),
        ref.add(driver.key("n2"), 2),
        Operation(ref.ADD, (driver.key("n3"),), (3,), misread),
        ref.add(driver.key("n4"), 4),
        ref.operation(RAISES, driver.key("r")),
    ]
    outcomes = driver.run_many(batch)
    assert [told_as(outcome) for outcome in outcomes] == [
        [1, 1],
        RAISED[driver.kind == "memory"],
        [1, 2],
        LookupError,
        [1, 4],
        RAISED[driver.kind == "memory"],
    ]
    assert driver.run(ref.add(driver.key("n3"), 0)) == [1, 3]


@pytest.mark.parametrize("argument", [2**53, -(2**53), "text", 1.5, None], ids=repr)
def test_one_that_cannot_be_sent_does_not_stop_the_others(bench: Bench, argument: Any) -> None:
    """What is no integer below 2**53 and no bytes is refused by name, alone, and in either colour."""
    for colour in COLOURS:
        with bench.driver("single", colour) as driver:
            wrong = ref.operation(ref.ADD, driver.key("n"), args=(argument,))
            outcomes = driver.run_many(
                [ref.add(driver.key("n"), 1), wrong, ref.add(driver.key("n"), 1)]
            )
            assert [told_as(outcome) for outcome in outcomes] == [[1, 1], InvalidArgument, [1, 2]]


def test_a_batch_of_one_script_many_times_keeps_its_order(driver: Driver) -> None:
    """A hundred replies to a hundred tokens, also where none of the servers knew the script before."""
    tokens = [b"%d" % number for number in range(100)]
    outcomes = driver.run_many([ref.echo(driver.key(f"k{token!r}"), token) for token in tokens])
    assert [told_as(outcome) for outcome in outcomes] == [[len(t), t, b""] for t in tokens]


# Errors


def _raise(*_: object) -> Change:
    raise ArithmeticError("as told")


RAISES = ref.script_of("return redis.error_reply('ERR as told')", _raise, "reference.raises")
RAISED = {True: ArithmeticError, False: OutcomeUnknown}


def misread(reply: Reply) -> Reply:
    """A reader that fails."""
    raise LookupError(len(reply))


def told_as(outcome: Outcome[Any]) -> object:
    """Return an outcome's value, or its error's type."""
    return type(outcome.error) if isinstance(outcome, Error) else outcome.value


def test_a_script_that_errs_raises(driver: Driver) -> None:
    """In memory what the fold raised; from Redis that nobody knows how far it came."""
    with pytest.raises(RAISED[driver.kind == "memory"], match="as told"):
        driver.run(ref.operation(RAISES, driver.key("r")))
    assert driver.run(ref.add(driver.key("n"), 1)) == [1, 1]


def test_what_a_reader_raises_reaches_the_caller(driver: Driver) -> None:
    """As it is; the operation has run."""
    with pytest.raises(LookupError):
        driver.run(Operation(ref.ADD, (driver.key("n"),), (1,), misread))
    assert driver.run(ref.add(driver.key("n"), 1)) == [1, 2]


def test_lua_that_does_not_compile_is_an_error(bench: Bench) -> None:
    """Not a loop of attempts."""
    script = ref.script_of("return {", _raise)
    with bench.driver("single", "sync") as driver, pytest.raises(OutcomeUnknown, match="compil"):
        driver.run(ref.operation(script, driver.key("x")))


WRONG = {
    "a number": "return 5",
    "bytes": "return 'text'",
    "a status": "return redis.status_reply('OK')",
    "nil": "return nil",
    "false": "return false",
    "nothing": "",
}


@pytest.fixture(params=[("single", "sync"), ("single", "async"), ("cluster", "async")])
def redis_driver(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Driver]:
    """A Redis store in a colour."""
    with bench.driver(*request.param) as opened:
        yield opened


@pytest.mark.parametrize("lua", WRONG.values(), ids=WRONG)
def test_a_reply_that_is_no_list_is_no_reply(redis_driver: Driver, lua: str) -> None:
    """The script has run, once, and nobody knows with what result; one that answers nil is not run again."""
    count = "redis.call('INCR', KEYS[1])\n"
    script = ref.script_of(count + lua, _raise)
    with pytest.raises(OutcomeUnknown, match="not a list"):
        redis_driver.run(ref.operation(script, redis_driver.key("n")))
    assert redis_driver.run(ref.add(redis_driver.key("n"), 0)) == [1, 1]


@pytest.mark.parametrize("lua", WRONG.values(), ids=WRONG)
def test_a_reply_that_is_no_list_fails_alone_in_a_batch(redis_driver: Driver, lua: str) -> None:
    """Its neighbours have theirs."""
    key = redis_driver.key("n", tag="t")
    script = ref.script_of("redis.call('INCR', KEYS[1])\n" + lua, _raise)
    batch = [ref.echo(key, b"1"), ref.operation(script, key), ref.echo(key, b"2")]
    outcomes = redis_driver.run_many(batch)
    assert [told_as(outcome) for outcome in outcomes] == [
        [1, b"1", b""],
        OutcomeUnknown,
        [1, b"2", b""],
    ]
    assert redis_driver.run(ref.add(key, 0)) == [1, 1]


# Slots


def test_keys_in_several_slots_are_refused_on_a_cluster_only(driver: Driver) -> None:
    """By name, before anything is sent; everywhere else they are one change like any other."""
    source, target = driver.key("source", tag="a"), driver.key("target", tag="b")
    driver.run(ref.add(source, 5))
    if driver.kind != "cluster":
        assert driver.run(ref.transfer(source, target, 2)) == [1, 3, 2]
        return
    with pytest.raises(CrossSlot, match="keys must lie in one slot") as caught:
        driver.run(ref.transfer(source, target, 2))
    assert caught.value.value == (source, target)
    assert driver.run(ref.add(source, 0)) == [1, 5]


def test_a_batch_may_spread_over_all_slots(driver: Driver) -> None:
    """Each operation of it in one; an operation that is not fails alone."""
    keys = [driver.key(f"n{number}") for number in range(30)]
    batch = [ref.add(key, number) for number, key in enumerate(keys)]
    crossing = ref.transfer(keys[1], keys[2], 1)
    outcomes = driver.run_many([*batch, crossing, ref.echo(keys[0], b"end")])
    last = CrossSlot if driver.kind == "cluster" else [1, 0, 3]
    expected = [*([1, number] for number in range(30)), last, [3, b"end", b""]]
    if driver.kind == "memory":
        assert [told_as(outcome) for outcome in outcomes] == expected
    else:  # where a script is sent again, with its text, a batch has no order
        assert [told_as(outcome) for outcome in outcomes[:30]] == expected[:30]
        assert told_as(outcomes[-1]) == expected[-1]
        assert (told_as(outcomes[-2]) == CrossSlot) == (driver.kind == "cluster")


# Faces, routes, the end


def test_the_faces_lead_to_each_other(driver: Driver) -> None:
    """One object holds the state; the clock is shared with features."""
    assert driver.store.aio.sync is driver.store
    assert driver.store.clock is driver.clock


def test_a_route_names_what_fails_together(driver: Driver) -> None:
    """The same before and after an operation, but on a Cluster, which must be asked first."""
    operation = ref.add(driver.key("n"), 1)
    driver.run(operation)
    route = driver.store.route(operation)
    assert route == driver.store.route(ref.echo(driver.key("n"), b"other"))
    assert {"memory": route == "memory", "sentinel": route == "main"}.get(driver.kind, ":" in route)


def test_statistics_count_operations(driver: Driver) -> None:
    """Each once; nothing is under way when nothing runs."""
    for _ in range(3):
        driver.run(ref.add(driver.key("n"), 1))
    before = driver.store.stats().operations
    driver.run(ref.add(driver.key("n"), 1))
    stats = driver.store.stats()
    assert stats.operations == before + 1
    assert (stats.in_flight, stats.waiting, stats.timeouts) == (0, 0, 0)


def test_a_closed_store_refuses_by_name(driver: Driver) -> None:
    """Both faces, and each operation of a batch; closing twice does nothing."""
    driver.run(ref.add(driver.key("n"), 1))
    driver.close()
    with pytest.raises(StoreClosed):
        driver.run(ref.add(driver.key("n"), 1))
    with pytest.raises(StoreClosed):
        driver.store.run(ref.add(driver.key("n"), 1))
    outcomes = driver.run_many([ref.add(driver.key("n"), 1)] * 2)
    assert [told_as(outcome) for outcome in outcomes] == [StoreClosed] * 2
    driver.close()


def test_a_store_closed_before_its_first_operation_refuses(driver: Driver) -> None:
    """Nothing is connected for it."""
    driver.close()
    with pytest.raises(StoreClosed):
        driver.run(ref.add(driver.key("n"), 1))
    assert driver.store.stats().connections == 0


# What memory owes where Lua has nothing to compare


def test_a_fold_that_raises_changes_nothing(clock: ManualClock) -> None:
    """Neither states nor the count of them."""
    store = MemoryStore(clock=clock)
    store.run(ref.add(b"a", 1))
    before = store.stats()
    with pytest.raises(ArithmeticError):
        store.run(ref.operation(RAISES, b"a", b"b"))
    after = store.stats()
    assert (after.entries, after.bytes) == (before.entries, before.bytes)
    assert store.run(ref.add(b"a", 0)) == [1, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_a_fold_that_writes_for_other_keys_than_its_own_changes_nothing(count: int) -> None:
    """One write per key, or none."""
    store = MemoryStore()
    store.run(ref.add(b"a", 1))
    fold: Callable[..., Change] = lambda *_: Change(((7, 10**9),) * count, [])  # noqa: E731
    with pytest.raises(ValueError, match="zip"):
        store.run(ref.operation(Script("odd", lua="", fold=fold), b"a", b"b"))
    assert store.run(ref.add(b"a", 0)) == [1, 1]
    assert store.stats().entries == 1


def test_values_are_kept_as_values() -> None:
    """An outcome's value is what the reader made of the reply."""
    store = MemoryStore()
    assert store.run(Operation(ref.ADD, (b"a",), (2,), lambda reply: reply[1])) == 2
    (outcome,) = store.run_many([Operation(ref.ADD, (b"a",), (2,), lambda reply: reply[1])])
    assert isinstance(outcome, Value)
    assert outcome.value == 4
