"""Sixteen threads, two hundred tasks and six event loops on one store at once: every caller gets its own reply."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from backendkit.core.operation import Reply
from backendkit.core.outcome import Value
from backendkit.core.store import Store
from tests.contract import reference as ref
from tests.ground.loops import in_threads
from tests.ground.stores import Bench, Kind

THREADS = 16
TASKS = 200
LOOPS = 6
ROUNDS = 60


@pytest.fixture
def store(bench: Bench, shared_kind: Kind) -> Iterator[Store]:
    """One store for all of them."""
    opened = bench.store(shared_kind)
    yield opened
    opened.close()


class Caller:
    """One of many: echoes tokens that nobody else has, and counts in keys that all share."""

    def __init__(self, namespace: str, number: int) -> None:
        self._name = f"{namespace}{number}"
        self._number = number
        self._shared = [f"{namespace}{{{n}}}:n".encode() for n in range(4)]
        self._place = count(number)

    def token(self) -> bytes:
        """Return bytes that nobody else sends, of a length of their own."""
        return f"{self._name}/{next(self._place)}".encode() + b"." * (next(self._place) % 97)

    def echo(self, token: bytes) -> ref.Steps:
        """Return an operation that replies with the token, on a key of one's own."""
        return ref.echo(f"{{{self._name}}}".encode(), token)

    def add(self) -> ref.Steps:
        """Return an operation that adds one to a counter that all share."""
        return ref.add(self._shared[next(self._place) % len(self._shared)], 1)

    def block(self, store: Store) -> int:
        """Do the rounds in this thread; return how many replies were another's."""
        wrong = 0
        for _ in range(ROUNDS):
            token, other = self.token(), self.token()
            wrong += not_mine(store.run(self.echo(token)), token)
            added, echoed = store.run_many([self.add(), self.echo(other)])
            assert isinstance(added, Value)
            assert isinstance(echoed, Value)
            wrong += not_mine(echoed.value, other)
        return wrong

    async def suspend(self, store: Store) -> int:
        """Do the rounds in this task; return how many replies were another's."""
        wrong = 0
        for _ in range(ROUNDS):
            token, other = self.token(), self.token()
            wrong += not_mine(await store.aio.run(self.echo(token)), token)
            added, echoed = await store.aio.run_many([self.add(), self.echo(other)])
            assert isinstance(added, Value)
            assert isinstance(echoed, Value)
            wrong += not_mine(echoed.value, other)
        return wrong


def not_mine(reply: Reply, token: bytes) -> bool:
    """Tell whether a reply is not that to the token."""
    return reply != [len(token), token, b""]


async def crowd(store: Store, callers: list[Caller]) -> int:
    """Let all callers go at once, and a task among them that blocks the loop; return the wrong replies."""
    wrong = await asyncio.gather(*(caller.suspend(store) for caller in callers[1:]))
    blocked = callers[0].block(store)  # synchronous code on an event loop's thread
    return sum(wrong) + blocked


def test_every_caller_gets_its_own_reply(store: Store, namespace: str) -> None:
    """Threads that block, tasks of one loop, loops in threads, and synchronous code on a loop, all together."""
    sizes = [1] * THREADS + [TASKS // LOOPS + 1] * LOOPS
    starts = [sum(sizes[:place]) for place in range(len(sizes))]

    def work(place: int) -> int:
        callers = [Caller(namespace, starts[place] + n) for n in range(sizes[place])]
        if place < THREADS:
            return callers[0].block(store)
        return asyncio.run(crowd(store, callers))

    wrong = in_threads(len(sizes), work, within=60)

    assert wrong == [0] * len(sizes)
    totals = [store.run(ref.add(f"{namespace}{{{n}}}:n".encode(), 0)) for n in range(4)]
    assert sum(total for _, total in totals if isinstance(total, int)) == sum(sizes) * ROUNDS


def test_tasks_of_one_loop_share_it(store: Store, namespace: str) -> None:
    """Two hundred at once: each its own reply, and every addition counted."""
    callers = [Caller(namespace, number) for number in range(TASKS)]
    assert asyncio.run(crowd(store, callers)) == 0
    totals = [store.run(ref.add(f"{namespace}{{{n}}}:n".encode(), 0))[1] for n in range(4)]
    assert sum(total for total in totals if isinstance(total, int)) == TASKS * ROUNDS
