"""The context is in every record, of its own request only, wherever the work goes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backendkit.core import context
from backendkit.core.context import Request
from backendkit.logging import (
    CarryingExecutor,
    bind,
    bound,
    carry,
    configure_logging,
    fields,
    get_logger,
)
from tests.unit.test_logging_configure import Lines


def test_threads_and_executors_take_the_context_along() -> None:
    """None of them does so by itself."""
    out = Lines()
    with configure_logging(stream=out):
        request = Request("r-1")
        token = context.enter(request)
        with ThreadPoolExecutor(2) as threads, bound(step="a"):
            pool = CarryingExecutor(threads)
            log = logging.getLogger("job")
            thread = threading.Thread(target=carry(log.error), args=("in a thread",))
            thread.start()
            thread.join()
            pool.submit(log.error, "in %s", "a pool").result()
            list(pool.map(log.error, ["mapped"]))
            threads.submit(log.error, "bare").result()
            pool.submit(bind, user_id=7).result()
            pool.shutdown(wait=True, cancel_futures=True)
        context.leave(request, token)
    found = {
        record["event"]: (record.get("request_id"), record.get("step")) for record in out.records()
    }
    assert found == {
        "in a thread": ("r-1", "a"), "in a pool": ("r-1", "a"), "mapped": ("r-1", "a"), "bare": (None, None),
    }  # fmt: skip
    assert request.fields == {"user_id": 7}


def test_a_carried_function_is_still_what_it_was() -> None:
    """For `def` and `async def`, called often and at once."""

    async def later(number: int) -> dict[str, object]:
        await asyncio.sleep(0)
        return {"number": number, **fields()}

    def now(number: int) -> dict[str, object]:
        return {"number": number, **fields()}

    with bound(shop=1):
        carried, called = carry(later), carry(now)
    assert inspect.iscoroutinefunction(carried)
    assert called.__name__ == "now"

    async def work() -> list[dict[str, object]]:
        return await asyncio.gather(*(carried(number) for number in range(3)))

    assert asyncio.run(work()) == [{"number": number, "shop": 1} for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(called, range(3))) == [{"number": n, "shop": 1} for n in range(3)]


def test_errors_and_cancelling_pass_through_a_carried_coroutine() -> None:
    """Whoever awaits it sees what it does."""

    async def fail() -> None:
        raise KeyError("x")

    async def wait() -> None:
        await asyncio.Event().wait()

    async def work() -> None:
        with pytest.raises(KeyError):
            await carry(fail)()
        task = asyncio.create_task(carry(wait)())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())


def test_500_requests_at_once_keep_apart() -> None:
    """Tasks, threads and executors in turn; no record has anything of another request."""
    out = Lines()
    with configure_logging(stream=out), ThreadPoolExecutor(8) as threads:
        log = get_logger("mixed")
        pool = CarryingExecutor(threads)

        async def serve(number: int) -> None:
            request = Request(f"r-{number}")
            token = context.enter(request)
            try:
                bind(user_id=number)
                loop = asyncio.get_running_loop()
                for _ in range(random.randrange(3)):
                    await asyncio.sleep(0)
                log.info("task", mine=number)
                with bound(step=number):
                    await asyncio.to_thread(log.info, "thread", mine=number)
                    await loop.run_in_executor(pool, carry(lambda: log.info("pool", mine=number)))
                    await asyncio.gather(*(asyncio.create_task(sub(number)) for _ in range(2)))
                log.info("end", mine=number)
            finally:
                context.leave(request, token)

        async def sub(number: int) -> None:
            await asyncio.sleep(0)
            logging.getLogger("std").info("sub", extra={"mine": number})

        async def all_of_them() -> None:
            await asyncio.gather(*(serve(number) for number in range(500)))

        asyncio.run(all_of_them())
    records = out.records()
    assert len(records) == 500 * 6
    for record in records:
        mine = record["mine"]
        assert (record["request_id"], record["user_id"]) == (f"r-{mine}", mine)
        assert record.get("step") == (None if record["event"] in {"task", "end"} else mine)


def test_a_job_that_outlives_its_request_cannot_change_it() -> None:
    """Its record was told; the job's own records still say where it came from."""
    out = Lines()
    with configure_logging(stream=out):
        request = Request("r-1")
        token = context.enter(request)

        def job() -> None:
            bind(late=True)
            get_logger().info("job")

        carried = carry(job)
        context.leave(request, token)
        carried()
    record = out.one()
    assert record["request_id"] == "r-1"
    assert "late" not in record
