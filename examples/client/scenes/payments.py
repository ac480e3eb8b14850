"""Payments: a provider that fails, slows down and recovers on command, and what a breaker makes of it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from backendkit.resilience import CircuitBreaker, CircuitOpen
from examples import storm
from examples.client.front import Answer, Front, Request
from examples.client.match import mismatches
from examples.client.payments_service import FAILING, PROVIDER, SLOW, WELL
from examples.client.scene import Played, Section

AGAIN_S = 0.6
"""Seconds after which the circuit lets trials through."""

REJECTED = 20
"""Requests that are sent to an open circuit, if the machine is quick enough to send them while it is open."""

HALF_S = 0.25
"""Half of the seconds for which it is."""

SOON = 8
"""Requests after which the circuit must be open."""

ASKED = Request(method="GET", path="/payments/7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The provider goes bad; the circuit opens, spares it, probes, and closes.

    Attributes:
        mode: what it is told to be.
        first: the status of the first answer, while the circuit is closed.
    """

    what: str
    mode: str
    first: int
    send: Request = field(default=ASKED)

    def play(self, front: Front) -> Played:
        """Tell the provider, and look at what clients and provider see."""
        provider = front.kept[PROVIDER]
        _tell(provider, self.mode)
        # How many it takes goes with what the worker who answers has seen before; its circuit is its own here.
        answers = list(_until_open(front, self.send))
        seen, began = _seen(provider), time.perf_counter()
        rejected, late = [front.send(self.send)], 0
        while len(rejected) < REJECTED and not late:
            answer = front.send(self.send)
            if time.perf_counter() < began + HALF_S:
                rejected.append(answer)
            else:
                late = 1  # it may have been a trial already
        each_ms = (time.perf_counter() - began) / len(rejected) * 1000
        reached = max(_seen(provider) - seen - late, 0)
        _tell(provider, WELL)
        time.sleep(AGAIN_S)
        after = [front.send(self.send) for _ in range(3)]
        statuses = [answers[0].status, *(answer.status for answer in (*rejected, *after))]
        faults = list(
            mismatches([self.first, *[503] * len(rejected), 200, 200, 200], statuses, "statuses")
        )
        faults += mismatches({"error": {"code": "CIRCUIT_OPEN"}}, rejected[0].data, "body")
        faults += mismatches({"retry-after": "1"}, rejected[0].headers, "header")
        faults += mismatches(0, reached, "requests that reached the provider meanwhile")
        beside = [
            f"open: {len(rejected)} requests answered in {each_ms:.1f} ms each, none reached the provider",
            f"after {AGAIN_S} s two trials went well, and it closed",
        ]
        return Played([answers[0], rejected[0], after[0]], faults, beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spared:
    """What a storm does to a provider, on a clock that is moved by hand; and what a rejection costs."""

    what: str
    send: Request = field(default=ASKED)

    def play(self, front: Front) -> Played:
        """Count what reaches the provider while it fails."""
        runs = {name: storm.run(make) for name, make in storm.RUNS.items()}
        inside = {name: sum(run[second] for second in storm.FAILS) for name, run in runs.items()}
        bare, budget, broken = inside.values()
        faults = [] if broken < 100 < budget < bare / 3 else [f"calls: {inside}"]
        beside = [f"{name}: {calls} calls while it failed" for name, calls in inside.items()]
        return Played(
            [front.send(self.send)], faults, [*beside, f"a rejection: {_rejection_us():.1f} us"]
        )


def _until_open(front: Front, request: Request) -> Iterator[Answer]:
    for _ in range(SOON):
        answer = front.send(request)
        yield answer
        if b"CIRCUIT_OPEN" in answer.body:
            return


def _rejection_us() -> float:
    breaker, calls = CircuitBreaker("shown"), 10_000
    breaker.open()
    began = time.perf_counter()
    for _ in range(calls):
        with suppress(CircuitOpen):
            breaker.call(int)
    return (time.perf_counter() - began) / calls * 1e6


def _tell(provider: str, mode: str) -> None:
    httpx.put(provider + "/mode", content=mode.encode(), trust_env=False)


def _seen(provider: str) -> int:
    return int(httpx.get(provider + "/seen", trust_env=False).json()["seen"])


SECTION = Section(
    "Payments",
    (
        Broken(
            what="the provider fails: the circuit opens, probes, and closes",
            mode=FAILING,
            first=503,
        ),
        Broken(what="the provider is slow: no different", mode=SLOW, first=200),
        Spared(what="a storm of retries, held down by a budget, and ended by a breaker"),
    ),
)
