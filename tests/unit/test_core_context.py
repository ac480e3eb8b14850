"""What belongs to a request: seen from its threads and tasks, and over when it is over."""

import asyncio
import contextvars
import sys
import threading
from collections import UserDict
from collections.abc import Iterator

import pytest

from backendkit.core import context
from backendkit.core.context import Request
from tests.ground.loops import in_threads


@pytest.fixture
def request_() -> Iterator[Request]:
    """A request that is current."""
    request = Request("r1")
    token = context.enter(request)
    yield request
    context.leave(request, token)


def test_outside_a_request_there_is_nothing() -> None:
    """Binding there does nothing, and harms nothing."""
    context.bind(user=1)
    assert context.current() is None
    assert context.request_id() is None
    assert context.fields() == {}
    assert context.deadline_us() is None


def test_a_request_is_current_until_it_is_left() -> None:
    """What was before it is current again."""
    outer, inner = Request("outer"), Request("inner")
    first = context.enter(outer)
    second = context.enter(inner)
    assert context.current() is inner
    assert context.request_id() == "inner"
    context.leave(inner, second)
    assert context.current() is outer
    assert not outer.ended
    context.leave(outer, first)
    assert context.current() is None
    assert inner.ended
    assert outer.ended


def test_bound_fields_stay_with_the_request(request_: Request) -> None:
    """Later ones win; the id comes first."""
    context.bind(user=1, plan="a")
    context.bind(plan="b")
    assert context.fields() == {"request_id": "r1", "user": 1, "plan": "b"}
    assert request_.fields == {"user": 1, "plan": "b"}


def test_what_a_thread_or_task_binds_the_request_has(request_: Request) -> None:
    """They copy the variable, not the object: the access line sees what a worker bound."""

    async def main() -> None:
        async def task() -> None:
            context.bind(task=1)

        await asyncio.create_task(task())
        await asyncio.to_thread(context.bind, thread=1)
        assert context.fields() == {"request_id": "r1", "task": 1, "thread": 1}

    asyncio.run(main())
    assert request_.fields == {"task": 1, "thread": 1}


def test_threads_that_bind_at_once_lose_nothing(request_: Request) -> None:
    """However the interpreter cuts in between reading and writing."""
    copies = [contextvars.copy_context() for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(
            8, lambda n: [copies[n].run(context.bind, **{f"f{n}_{i}": i}) for i in range(60)]
        )
    finally:
        sys.setswitchinterval(interval)
    assert len(request_.fields) == 8 * 60


def test_what_comes_while_fields_are_added_is_not_lost(request_: Request) -> None:
    """Another thread's fields wait until these are in."""

    class Slow(UserDict[str, int]):
        """Fields that take their time, in which another thread has come."""

        def __getitem__(self, key: str) -> int:
            other.start()
            came.wait(0.05)
            return super().__getitem__(key)

    def add() -> None:
        request_.add({"other": 1})
        came.set()

    came, other = threading.Event(), threading.Thread(target=add)
    request_.add(Slow(slow=1))
    other.join(20)
    assert request_.fields == {"slow": 1, "other": 1}


def test_readers_see_no_dictionary_that_changes(request_: Request) -> None:
    """What was read stays as it was read."""
    context.bind(a=1)
    before = request_.fields
    context.bind(b=2)
    assert before == {"a": 1}


def test_a_request_that_has_ended_is_frozen() -> None:
    """A job that outlives it cannot write into a record that was told already."""
    request = Request("r")
    token = context.enter(request)
    context.bind(a=1)
    job = contextvars.copy_context()
    context.leave(request, token)
    job.run(context.bind, late=1)
    assert request.fields == {"a": 1}
    assert job.run(context.request_id) == "r"


def test_a_request_may_be_left_from_another_context() -> None:
    """As a server does that closes a response's iterable elsewhere: it ends, and is current there no longer."""
    request, other = Request("r"), Request("other")
    elsewhere = contextvars.copy_context()
    token = elsewhere.run(context.enter, request)
    inside = elsewhere.run(contextvars.copy_context)
    inside.run(context.leave, request, token)
    assert request.ended
    assert inside.run(context.current) is None
    mine = context.enter(other)
    context.leave(request, token)
    assert context.current() is other
    context.leave(other, mine)


def test_a_suspended_request_goes_on(request_: Request) -> None:
    """It is not current meanwhile, and has not ended."""
    token = context.enter(request_)
    context.suspend(request_, token)
    assert context.current() is request_  # from the fixture
    other = Request("between")
    first = context.enter(other)
    context.suspend(other, first)
    second = context.enter(other)
    context.bind(a=1)
    context.leave(other, second)
    assert other.fields == {"a": 1}


def test_lexical_fields_end_with_their_block(request_: Request) -> None:
    """They nest, win over the request's, and are not in its record."""
    context.bind(step=0)
    with context.bound(step=1, other=1):
        with context.bound(step=2):
            assert context.fields() == {"request_id": "r1", "step": 2, "other": 1}
        assert context.fields()["step"] == 1
    assert context.fields() == {"request_id": "r1", "step": 0}
    assert request_.fields == {"step": 0}


def test_lexical_fields_need_no_request() -> None:
    """And end also when the block raises."""

    def fail() -> None:
        with context.bound(a=1):
            seen.update(context.fields())
            raise LookupError

    seen: dict[str, object] = {}
    with pytest.raises(LookupError):
        fail()
    assert seen == {"a": 1}
    assert context.fields() == {}


def test_fields_are_the_callers_own(request_: Request) -> None:
    """What is done to them changes nothing."""
    with context.bound(a=1):
        context.fields()["a"] = 2
        assert context.fields()["a"] == 1


def test_deadlines_nest_and_take_the_minimum() -> None:
    """An inner one can only be earlier; each ends with its block, also by an error."""
    with context.until(100) as outer:
        with context.until(200) as later:
            assert (later, context.deadline_us()) == (100, 100)
        with context.until(50) as sooner:
            assert (sooner, context.deadline_us()) == (50, 50)
        with pytest.raises(LookupError):
            fail_by(50)
        assert (outer, context.deadline_us()) == (100, 100)
    assert context.deadline_us() is None


def fail_by(mono_us: int) -> None:
    """Raise under a deadline."""
    with context.until(mono_us):
        raise LookupError


def test_a_task_inherits_the_deadline_and_keeps_its_own() -> None:
    """What it sets is not its sibling's."""

    async def main() -> list[int | None]:
        async def own(us: int) -> int | None:
            with context.until(us):
                await asyncio.sleep(0)
                return context.deadline_us()

        with context.until(100):
            return list(await asyncio.gather(own(10), own(20), own(1_000)))

    assert asyncio.run(main()) == [10, 20, 100]


def test_detached_work_keeps_the_requests_name_and_neither_binds_nor_hurries() -> None:
    """It may serve others, too, or outlive the request."""
    request = Request("r-1")
    token = context.enter(request)
    context.bind(user_id="u")

    def work() -> tuple[dict[str, object], int | None]:
        context.detach()
        context.bind(late=True)
        return context.fields(), context.deadline_us()

    with context.until(5):
        told = contextvars.copy_context().run(work)
        assert context.deadline_us() == 5
    context.leave(request, token)
    assert told == ({"request_id": "r-1", "user_id": "u"}, None)
    assert request.fields == {"user_id": "u"}


def test_detaching_outside_of_a_request_drops_the_deadline() -> None:
    """There is nothing else to drop."""
    with context.until(5):
        contextvars.copy_context().run(context.detach)

        def work() -> tuple[object, int | None]:
            context.detach()
            return context.current(), context.deadline_us()

        assert contextvars.copy_context().run(work) == (None, None)
