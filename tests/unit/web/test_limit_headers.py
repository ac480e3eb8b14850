"""What a response says about limits, figure by figure, and what it says when the store is lost or the limiter is off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import OutcomeUnknown
from backendkit.core.operation import Operation
from backendkit.http import AsgiLimits, LimitRule, WsgiLimits
from backendkit.http.limit_headers import headers_of, retry_after
from backendkit.ratelimit import GCRA, Concurrency, Limit, OnStoreFailure, RateLimiter
from backendkit.stores import MemoryStore
from tests.unit.web.test_limits import driven, limiter, told, ways


def test_times_are_rounded_up() -> None:
    """Whoever comes at the second that a header names finds room."""
    clock = ManualClock()
    limits = limiter(Limit("x", 2, per=1.5), clock=clock)
    limits.hit("a")
    clock.advance(400_000)
    decision = limits.hit("a")
    ietf = [("RateLimit-Policy", '"x";q=2;w=2'), ("RateLimit", '"x";r=0;t=2')]
    assert headers_of(decision, "ietf") == ietf
    legacy = {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2"}
    assert dict(headers_of(decision, "legacy")) == legacy
    assert retry_after(limits.hit("a")) == 2
    clock.advance(1_099_999)
    assert retry_after(limits.hit("a")) == 1  # a microsecond is left


def test_retry_after_says_never_and_is_never_earlier_than_the_header() -> None:
    """A cost beyond the limit; and a limit that was lowered, where units have to go before more than none is left."""
    store = MemoryStore(clock=ManualClock())
    high, low = (RateLimiter(store, Limit("x", n, per=60, algorithm=GCRA(burst=n))) for n in (4, 2))
    assert retry_after(high.hit("a", cost=5)) is None
    high.hit("b", cost=4)
    denied = low.hit("b", cost=0)
    assert retry_after(denied) == 90
    assert headers_of(denied, "ietf")[1] == ("RateLimit", '"x";r=0;t=90')


def test_seats_are_no_units_in_time() -> None:
    """Their policy names the registered unit."""
    seats = limiter(Limit("jobs", 3, per=60, algorithm=Concurrency()))
    policy = ("RateLimit-Policy", '"jobs";q=3;qu="concurrent-requests";w=60')
    assert headers_of(seats.hit("a"), "ietf")[0] == policy


class Lost(MemoryStore):
    """A store whose cable is out."""

    def run(self, operation: Operation[Any]) -> Any:
        """Fail."""
        raise OutcomeUnknown("the cable is out")


@ways
@pytest.mark.parametrize(("policy", "status", "after"), [("open", 200, None), ("closed", 503, "1")])
def test_nothing_is_said_of_a_limit_that_nobody_knows(
    way: str, policy: OnStoreFailure, status: int, after: str | None
) -> None:
    """While the store is lost: admitted, or 503 and never 429; without figures that would be invented."""
    lost = RateLimiter(Lost(clock=ManualClock()), Limit("x", 1, per=60, on_store_failure=policy))
    app = driven(way, LimitRule(limiter=lost))
    for _ in range(3):
        answer = app.get("/plain")
        assert (answer.status, told(answer)) == (status, (None, None, after, None))


@ways
def test_nothing_is_said_by_a_limiter_that_is_off(way: str) -> None:
    """It knows nothing."""
    idle = limiter("1/minute")
    idle.enabled = False
    answer = driven(way, LimitRule(limiter=idle)).get("/plain")
    assert (answer.status, told(answer)) == (200, (None,) * 4)


@ways
def test_failures_count_without_headers_too(way: str) -> None:
    """That nothing is said does not mean that nothing is settled."""
    rule = LimitRule(limiter=limiter("1/minute"), failures_only=True, headers="off")
    app = driven(way, rule)
    assert [app.get(p).status for p in ("/plain", "/plain", "/wrong", "/plain")] == [
        200, 200, 401, 429,
    ]  # fmt: skip


def test_an_application_that_raises_has_failed_and_holds_no_seat() -> None:
    """Before it began to answer: what counts failures counts one, and a seat is free again."""

    def wsgi(_environ: Any, _start: Any) -> Any:
        raise LookupError("a mistake")

    async def asgi(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("a mistake")

    def call(rule: LimitRule, kind: str) -> None:
        if kind == "wsgi":
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
            WsgiLimits(wsgi, rule)(environ, lambda *_: lambda _: None)
        else:
            scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
            asyncio.run(AsgiLimits(asgi, rule)(scope, None, None))  # type: ignore[arg-type]

    for kind in ("wsgi", "asgi"):
        units = limiter("1/minute")
        seats = limiter(Limit("jobs", 1, per=60, algorithm=Concurrency()))
        for rule in (
            LimitRule(limiter=units, key=lambda _: "who", failures_only=True),
            LimitRule(limiter=seats, key=lambda _: "who"),
        ):
            with pytest.raises(LookupError):
                call(rule, kind)
        assert (units.peek("who").remaining, seats.peek("who").remaining) == (0, 1)


def test_a_socket_that_was_closed_for_its_messages_says_no_more() -> None:
    """An application that goes on sending, or closes once more, breaks no rule of ASGI."""
    sent: list[Any] = []
    texts = iter([{"type": "websocket.receive", "text": "hello"}] * 2)

    async def receive() -> Any:
        return next(texts)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "echo"})
        await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close"})

    messages = LimitRule(limiter=limiter("1/minute"), key=lambda _: "who")
    whole = AsgiLimits(app, LimitRule(limiter=limiter("9/minute")), messages=messages)
    scope = {"type": "websocket", "path": "/", "headers": [], "client": ("192.0.2.1", 1)}
    asyncio.run(whole(scope, receive, send))
    assert sent == ["websocket.accept", "websocket.send", "websocket.close"]
