"""Single flight: one load for all who ask meanwhile, in threads, tasks and both, and nothing left behind."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from backendkit.core import context
from backendkit.core.flights import Flights
from backendkit.core.outcome import Error, Outcome, Value
from tests.ground.loops import in_fork, in_threads
from tests.ground.stores import LoopThread
from tests.ground.waiting import eventually

SOON_US = 20_000
"""A bound of waits that tests can wait for."""

Load = Callable[[], Coroutine[Any, Any, Outcome[Any]]]


class Gate:
    """A load that both colours can hold open, and that counts how often it was begun."""

    def __init__(self, outcome: Outcome[Any] | None = None) -> None:
        self.begun = 0
        self.outcome: Outcome[Any] = outcome or Value("loaded")
        self.open = threading.Event()

    def load(self) -> Outcome[Any]:
        """Block until the gate is open."""
        self.begun += 1
        assert self.open.wait(20)
        return self.outcome

    async def load_async(self) -> Outcome[Any]:
        """Suspend until the gate is open."""
        self.begun += 1
        while not self.open.is_set():  # noqa: ASYNC110  # set by another thread, or by a task that knows no event
            await asyncio.sleep(0)
        return self.outcome


def loaded(value: object = "own") -> Outcome[Any]:
    """A load that ends at once."""
    return Value(value)


async def loaded_async() -> Outcome[Any]:
    """The same, awaited."""
    return Value("own")


def waiting(flights: Flights, key: object = "k") -> int:
    """Return how many wait on a future for a key."""
    flight = flights._flights.get(key)
    return 0 if flight is None else len(flight._waiters)


def blocked(flights: Flights, key: object = "k") -> int:
    """Return how many threads wait for a key."""
    flight = flights._flights.get(key)
    return 0 if flight is None else len(flight.landed._cond._waiters)  # type: ignore[attr-defined]  # of CPython


def test_threads_share_one_load() -> None:
    """The leader begins, the others get what it got, the same object."""
    flights, gate = Flights(), Gate(Value(object()))

    def work(number: int) -> object:
        if number < 8:
            return flights.share_sync("k", gate.load)
        eventually(lambda: blocked(flights) == 7, "seven wait for the eighth")
        gate.open.set()
        return gate.outcome

    assert {id(outcome) for outcome in in_threads(9, work)} == {id(gate.outcome)}
    assert (gate.begun, len(flights)) == (1, 0)


def test_a_waiting_thread_gets_the_leaders_error() -> None:
    """An outcome like any other."""
    flights, gate = Flights(), Gate(Error(LookupError("x")))
    got: list[Outcome[Any]] = []
    leader = threading.Thread(target=flights.share_sync, args=("k", gate.load))
    follower = threading.Thread(target=lambda: got.append(flights.share_sync("k", loaded)))
    leader.start()
    eventually(lambda: gate.begun, "the leader leads")
    follower.start()
    eventually(lambda: blocked(flights) == 1, "the follower waits")
    gate.open.set()
    leader.join(20)
    follower.join(20)
    assert got == [gate.outcome]


def test_tasks_share_one_load() -> None:
    """However many."""

    async def main() -> None:
        flights, gate = Flights(), Gate(Value(object()))
        tasks = [asyncio.create_task(flights.share_async("k", gate.load_async)) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (len(flights), waiting(flights), gate.begun) == (1, 50, 1)
        gate.open.set()
        assert {id(outcome) for outcome in await asyncio.gather(*tasks)} == {id(gate.outcome)}
        assert gate.begun == 1
        assert len(flights) == 0

    asyncio.run(main())


def test_different_keys_fly_apart() -> None:
    """And equal ones together, also where they are not the same object."""

    async def main() -> None:
        flights, one, two = Flights(), Gate(Value(1)), Gate(Value(2))
        tasks = [
            asyncio.create_task(flights.share_async(key, gate.load_async))
            for key, gate in ((("a", 1), one), (("a", 2), two), (("a", 1), two))
        ]
        await asyncio.sleep(0)
        assert len(flights) == 2
        one.open.set()
        two.open.set()
        assert [outcome.unwrap() for outcome in await asyncio.gather(*tasks)] == [1, 2, 1]

    asyncio.run(main())


def test_threads_wait_for_a_task() -> None:
    """A leader that awaits serves callers that block in other threads."""
    flights, gate = Flights(), Gate()
    with LoopThread() as loop:
        leader = asyncio.run_coroutine_threadsafe(
            flights.share_async("k", gate.load_async), loop.loop
        )
        eventually(lambda: gate.begun, "the task leads")
        got: list[Outcome[Any]] = []
        threads = [
            threading.Thread(target=lambda: got.append(flights.share_sync("k", gate.load)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: blocked(flights) == 4, "four wait")
        gate.open.set()
        for thread in threads:
            thread.join(20)
        assert [outcome is gate.outcome for outcome in got] == [True] * 4
        assert leader.result(20) is gate.outcome
    assert gate.begun == 1


def test_tasks_wait_for_a_thread() -> None:
    """Of two loops, each on a future of its own, while the loops go on."""
    flights, gate = Flights(), Gate()
    leader = threading.Thread(target=flights.share_sync, args=("k", gate.load))
    leader.start()
    eventually(lambda: gate.begun, "the thread leads")
    with LoopThread() as one, LoopThread() as two:
        futures = [
            asyncio.run_coroutine_threadsafe(flights.share_async("k", loaded_async), each.loop)
            for each in (one, two, one)
        ]
        eventually(lambda: waiting(flights) == 3, "three wait")
        assert one.run(loaded_async()).unwrap() == "own"
        gate.open.set()
        assert [future.result(20) is gate.outcome for future in futures] == [True] * 3
    leader.join(20)
    assert (gate.begun, len(flights)) == (1, 0)


def test_a_leader_survives_its_first_callers_cancellation() -> None:
    """The load is everybody's."""

    async def main() -> None:
        flights, gate = Flights(), Gate()
        first = asyncio.create_task(flights.share_async("k", gate.load_async))
        await asyncio.sleep(0)
        second = asyncio.create_task(flights.share_async("k", loaded_async))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        gate.open.set()
        assert await second is gate.outcome
        assert gate.begun == 1

    asyncio.run(main())


def test_a_waiters_cancellation_harms_nobody() -> None:
    """Neither the leader nor the others."""

    async def main() -> None:
        flights, gate = Flights(), Gate()
        tasks = [asyncio.create_task(flights.share_async("k", gate.load_async)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        gate.open.set()
        assert await tasks[0] is await tasks[2] is gate.outcome

    asyncio.run(main())


def test_a_load_that_raises_is_told_to_all() -> None:
    """To a leader that blocks by raising, to everybody else as an outcome."""
    flights, begun, go = Flights(), threading.Event(), threading.Event()

    def fail() -> Outcome[Any]:
        begun.set()
        assert go.wait(20)
        raise LookupError("x")

    def lead() -> None:
        with pytest.raises(LookupError):
            flights.share_sync("k", fail)

    leader = threading.Thread(target=lead)
    leader.start()
    assert begun.wait(20)
    with LoopThread() as loop:
        follower = asyncio.run_coroutine_threadsafe(
            flights.share_async("k", loaded_async), loop.loop
        )
        eventually(lambda: waiting(flights) == 1, "one waits")
        go.set()
        outcome = follower.result(20)
    leader.join(20)
    assert isinstance(outcome, Error)
    assert isinstance(outcome.error, LookupError)
    assert len(flights) == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_an_awaited_load_that_raises_is_told_to_all(*, at_once: bool) -> None:
    """Whether it raises when it is called or when it is awaited; no task's error is left unseen."""

    async def fail() -> Outcome[Any]:
        raise LookupError("x")

    def refuse() -> Coroutine[Any, Any, Outcome[Any]]:
        raise LookupError("x")

    async def main() -> None:
        flights = Flights()
        load: Load = refuse if at_once else fail
        outcomes = await asyncio.gather(*(flights.share_async("k", load) for _ in range(3)))
        for outcome in outcomes:
            assert isinstance(outcome, Error)
            assert isinstance(outcome.error, LookupError)
        assert len(flights) == 0
        assert not flights._tasks

    asyncio.run(main())
    gc.collect()


def test_an_interrupted_load_lands() -> None:
    """What ends the program ends nobody else's wait by a timeout."""
    flights = Flights()

    def interrupt() -> Outcome[Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flights.share_sync("k", interrupt)
    assert len(flights) == 0
    assert flights.share_sync("k", loaded).unwrap() == "own"


@pytest.mark.parametrize("begun", [True, False])
def test_a_load_whose_task_is_cancelled_lands(*, begun: bool) -> None:
    """As all tasks are when a loop ends; also one that never took its first step, and without a warning for it."""
    flights, gate = Flights(), Gate()

    async def main() -> None:
        first = asyncio.create_task(flights.share_async("k", gate.load_async))
        await asyncio.sleep(0)
        if begun:
            await asyncio.sleep(0)
        assert (len(flights), gate.begun) == (1, int(begun))
        (leader,) = flights._tasks
        leader.cancel()
        outcome = await first
        assert isinstance(outcome, Error)
        assert str(outcome.error) == "the load was interrupted"

    asyncio.run(main())
    gc.collect()
    assert len(flights) == 0
    assert not flights._tasks


def test_a_cancelled_leader_tells_a_loop_that_waits() -> None:
    """That the load was interrupted, and not after a timeout."""
    flights, gate = Flights(), Gate()
    waits = threading.Event()

    async def lead() -> None:
        task = asyncio.create_task(flights.share_async("k", gate.load_async))
        while waiting(flights) < 2:  # noqa: ASYNC110  # set by another thread, or by a task that knows no event
            await asyncio.sleep(0)
        waits.set()
        task.cancel()

    with LoopThread() as loop:
        leader = threading.Thread(target=lambda: asyncio.run(lead()))
        leader.start()
        eventually(lambda: gate.begun, "the task leads")
        outcome = loop.run(flights.share_async("k", loaded_async))
        leader.join(20)
    assert waits.is_set()
    assert isinstance(outcome, Error)
    assert str(outcome.error) == "the load was interrupted"


def test_a_blocking_caller_on_the_leaders_loop_loads_for_itself() -> None:
    """It would else wait for a task that only its own return lets go on."""

    async def main() -> None:
        flights, gate = Flights(SOON_US), Gate()
        leader = asyncio.create_task(flights.share_async("k", gate.load_async))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert flights.share_sync("k", loaded).unwrap() == "own"
        assert len(flights) == 1  # who had waited in vain would have forgotten it
        gate.open.set()
        assert await leader is gate.outcome

    asyncio.run(main())


def test_a_blocking_caller_between_two_runs_of_the_leaders_loop_loads_for_itself() -> None:
    """The loop has stopped, and only this thread would run it again."""
    flights, gate = Flights(SOON_US), Gate()
    with asyncio.Runner() as runner:

        async def begin() -> None:
            task = asyncio.create_task(flights.share_async("k", gate.load_async))
            kept.append(task)
            while not gate.begun:  # noqa: ASYNC110  # set by another thread, or by a task that knows no event
                await asyncio.sleep(0)

        kept: list[asyncio.Task[Any]] = []
        runner.run(begin())
        assert flights.share_sync("k", loaded).unwrap() == "own"
        assert len(flights) == 1
        gate.open.set()

        async def end() -> bool:
            return await kept[0] is gate.outcome

        assert runner.run(end())


def test_a_blocking_caller_on_a_loop_that_moved_loads_for_itself() -> None:
    """A loop that another thread now runs is known by itself."""
    flights, gate = Flights(SOON_US), Gate()
    loop = asyncio.new_event_loop()
    begun = threading.Thread(
        target=lambda: loop.run_until_complete(lead(flights, gate, kept)),
    )
    kept: list[asyncio.Task[Any]] = []
    begun.start()
    begun.join(20)

    async def elsewhere() -> object:
        value = flights.share_sync("k", loaded).unwrap()
        assert len(flights) == 1
        gate.open.set()
        await kept[0]
        return value

    assert loop.run_until_complete(elsewhere()) == "own"
    loop.close()


async def lead(flights: Flights, gate: Gate, kept: list[asyncio.Task[Any]]) -> None:
    """Begin to lead in a task, and leave it."""
    kept.append(asyncio.create_task(flights.share_async("k", gate.load_async)))
    while not gate.begun:  # noqa: ASYNC110  # set by another thread, or by a task that knows no event
        await asyncio.sleep(0)


def test_recursion_in_one_thread_loads_for_itself() -> None:
    """A load that asks for its own key gets an answer."""
    flights = Flights(SOON_US)

    def load() -> Outcome[Any]:
        own = flights.share_sync("k", loaded).unwrap()
        assert len(flights) == 1
        return Value([own])

    assert flights.share_sync("k", load).unwrap() == ["own"]
    assert len(flights) == 0


def test_a_loop_run_by_a_load_does_not_wait_for_it() -> None:
    """The leader blocks further up the stack, in the very thread."""
    flights = Flights(SOON_US)

    def load() -> Outcome[Any]:
        own = asyncio.run(flights.share_async("k", loaded_async)).unwrap()
        assert len(flights) == 1
        return Value([own])

    assert flights.share_sync("k", load).unwrap() == ["own"]
    assert len(flights) == 0


def test_a_wait_in_a_thread_is_bounded() -> None:
    """Then the caller loads for itself; later ones begin anew, and the late leader disturbs nobody."""
    flights, gate = Flights(SOON_US), Gate()
    leader = threading.Thread(target=flights.share_sync, args=("k", gate.load))
    leader.start()
    eventually(lambda: gate.begun, "the leader leads")
    assert flights.share_sync("k", loaded).unwrap() == "own"
    assert len(flights) == 0
    gate.open.set()
    leader.join(20)
    assert len(flights) == 0


def test_a_wait_in_a_task_is_bounded() -> None:
    """As in a thread; the leader's own caller waits for as long as its load takes."""

    async def main() -> None:
        flights, gate = Flights(SOON_US), Gate()
        first = asyncio.create_task(flights.share_async("k", gate.load_async))
        await asyncio.sleep(0)
        outcome = await flights.share_async("k", loaded_async)
        assert outcome.unwrap() == "own"
        assert len(flights) == 0
        assert not first.done()
        gate.open.set()
        assert await first is gate.outcome

    asyncio.run(main())


def test_a_detached_flight_still_lands_for_those_who_wait() -> None:
    """Later callers begin a new one, which the old one's landing leaves alone."""

    async def main() -> None:
        flights, old, new = Flights(), Gate(Value("old")), Gate(Value("new"))
        first = asyncio.create_task(flights.share_async("k", old.load_async))
        await asyncio.sleep(0)
        flights.detach("k")
        flights.detach("k")
        second = asyncio.create_task(flights.share_async("k", new.load_async))
        await asyncio.sleep(0)
        old.open.set()
        assert (await first).unwrap() == "old"
        assert len(flights) == 1
        new.open.set()
        assert (await second).unwrap() == "new"

    asyncio.run(main())


def test_a_loop_that_was_closed_keeps_nobody_from_being_told() -> None:
    """Its waiters are gone; the others are not."""
    flights, gate = Flights(), Gate()
    leader = threading.Thread(target=flights.share_sync, args=("k", gate.load))
    leader.start()
    eventually(lambda: gate.begun, "the thread leads")
    gone = asyncio.new_event_loop()
    left = gone.create_task(flights.share_async("k", loaded_async))
    gone.run_until_complete(asyncio.sleep(0))
    flight = flights._flights["k"]
    with LoopThread() as loop:
        follower = asyncio.run_coroutine_threadsafe(
            flights.share_async("k", loaded_async), loop.loop
        )
        eventually(lambda: waiting(flights) == 2, "two wait")
        left.cancel()
        gone.run_until_complete(asyncio.gather(left, return_exceptions=True))
        gone.close()
        gate.open.set()
        assert follower.result(20) is gate.outcome
    leader.join(20)
    assert flight.outcome is gate.outcome


def test_whoever_comes_between_landing_and_leaving_is_told_at_once() -> None:
    """A waiter that boards a flight which has just landed has its outcome."""

    async def main() -> None:
        flights = Flights()
        flight, _ = flights._board("k")
        flight.land(Value(1))
        flight._thread = 0  # of another thread
        assert (await flights.share_async("k", loaded_async)).unwrap() == 1

    asyncio.run(main())


def test_a_flight_lands_once() -> None:
    """A second landing changes nothing that was told."""
    flights = Flights()
    flight, _ = flights._board("k")
    first: Outcome[Any] = Value(1)
    flight.land(first)
    flight.land(Value(2))
    assert flight.outcome is first


def test_a_fork_forgets_what_the_parent_loads() -> None:
    """The child leads for itself, though the parent's lock was held; the parent goes on."""
    flights, gate = Flights(), Gate()
    leader = threading.Thread(target=flights.share_sync, args=("k", gate.load))
    leader.start()
    eventually(lambda: gate.begun, "the leader leads")
    with flights._lock:
        child = in_fork(lambda: (len(flights), flights.share_sync("k", loaded).unwrap()))
    assert child == (0, "own")
    assert len(flights) == 1
    gate.open.set()
    leader.join(20)


def test_a_load_sees_the_first_callers_context_and_changes_a_copy() -> None:
    """A variable that it sets is set for nobody else."""
    variable = contextvars.ContextVar("variable", default="none")

    async def load() -> Outcome[str]:
        seen = variable.get()
        variable.set("load")
        return Value(seen)

    async def main() -> None:
        variable.set("caller")
        assert (await Flights().share_async("k", load)).unwrap() == "caller"
        assert variable.get() == "caller"

    asyncio.run(main())


def test_many_of_both_at_once_leave_nothing() -> None:
    """Threads and loops over a few keys: every caller gets a value of its key, and all flights land."""
    flights = Flights()

    def load(key: int) -> Outcome[int]:
        return Value(key)

    async def load_async(key: int) -> Outcome[int]:
        await asyncio.sleep(0)
        return Value(key)

    async def crowd() -> list[int]:
        made = [flights.share_async(n % 3, lambda n=n: load_async(n % 3)) for n in range(60)]  # type: ignore[misc]
        return [outcome.unwrap() for outcome in await asyncio.gather(*made)]

    def work(number: int) -> list[int]:
        if number % 2:
            return asyncio.run(crowd())
        return [flights.share_sync(n % 3, lambda n=n: load(n % 3)).unwrap() for n in range(60)]  # type: ignore[misc]

    expected = [n % 3 for n in range(60)]
    assert in_threads(8, work) == [expected] * 8
    assert len(flights) == 0
    assert not flights._tasks


def test_a_shared_load_is_nobodys_request() -> None:
    """What it binds shows in no request, and the first caller's deadline does not hold for the others."""
    flights = Flights()
    request = context.Request("r-1")

    async def load() -> Outcome[tuple[str | None, int | None]]:
        context.bind(loaded=True)
        return Value((context.request_id(), context.deadline_us()))

    async def caller() -> Outcome[tuple[str | None, int | None]]:
        token = context.enter(request)
        try:
            with context.until(1):
                return await flights.share_async("k", load)
        finally:
            context.leave(request, token)

    assert asyncio.run(caller()).unwrap() == ("r-1", None)
    assert request.fields == {}
