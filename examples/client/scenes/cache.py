"""Cache: a catalogue that another service keeps, read often, asked for seldom, and served while that service is down.

The store is each process's own memory here, so that all hits are of the first tier; with `BACKENDKIT_STORE__URL=redis://...`
a second one joins, and the service is asked once for the whole fleet.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from examples.client.front import Answer, Front, Request
from examples.client.match import mismatches
from examples.client.scene import Exchange, Expect, Played, Section
from examples.client.scenes.conditions import Again
from examples.client.scenes.refusals import refused

TTL_S = 2
"""Seconds that the servers keep the catalogue fresh, see `servers.CACHED`."""

THROTTLED_S = 1
"""Seconds for which a source that has failed is left alone: the library's default."""

HERD = 16
READ = Request(method="GET", path="/catalogue")


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """Many want the catalogue at once, and it is not there: the source is asked once."""

    what: str
    send: Request = field(default_factory=lambda: READ)

    def play(self, front: Front) -> Played:
        """Ask all at once, and look at the source's own count."""
        before = _asked(front)
        with ThreadPoolExecutor(HERD) as threads:
            answers = list(threads.map(front.send, [self.send] * HERD))
        asked = _asked(front) - before
        faults = list(mismatches([200] * HERD, [a.status for a in answers], "statuses"))
        faults += mismatches(1, len({a.body for a in answers}), "different bodies")
        faults += mismatches(1, asked, "times that the source was asked")
        return Played(answers, faults, [f"{HERD} requests, the source was asked {asked} time"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Some more reads, and which tier has answered them."""

    what: str
    times: int = 3
    send: Request = field(default_factory=lambda: READ)

    def play(self, front: Front) -> Played:
        """Read, and look at the cache's statistics before and after; what is read has just been loaded."""
        front.send(Request(method="PUT", path="/catalogue/team", json={"price": 12}))
        front.send(self.send)
        before = _seen(front)
        answers = [front.send(self.send) for _ in range(self.times)]
        after = _seen(front)
        more = {name: after[name] - before[name] for name in after}
        faults = list(mismatches({"l1": self.times, "l2": 0, "loads": 0}, more, "hits"))
        beside = f"first tier: {more['l1']} hits, second tier: {more['l2']}, loads: {more['loads']}"
        return Played(answers, faults, [beside + " (the store is memory: there is no second tier)"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The source goes down, what is cached gets old, the source comes back with another price."""

    what: str
    send: Request = field(default_factory=lambda: READ)

    def play(self, front: Front) -> Played:
        """Read before, meanwhile and after."""
        before = front.send(self.send)
        stale_before = _seen(front)["stale"]
        _steer(front, "/down", down=True)
        time.sleep(TTL_S + 0.1)
        meanwhile = front.send(self.send)
        stale = _seen(front)["stale"] - stale_before
        _steer(front, "/plans/team", price=15)
        _steer(front, "/down", down=False)
        time.sleep(THROTTLED_S + 0.1)
        after = front.send(self.send)
        answers = [before, meanwhile, after]
        faults = list(mismatches([200] * 3, [a.status for a in answers], "statuses"))
        faults += mismatches(before.body, meanwhile.body, "the stale body")
        faults += mismatches(1, stale, "answers that were stale")
        faults += mismatches(15, _price(after), "the price afterwards")
        told = f"while it was down: {_price(meanwhile)} (stale), afterwards: {_price(after)}"
        return Played(answers, faults, [told])


def _price(answer: Answer) -> object:
    data = answer.data
    plans = data.get("plans", []) if isinstance(data, dict) else []
    return next((plan["price"] for plan in plans if plan["name"] == "team"), None)


def _asked(front: Front) -> int:
    asked = httpx.get(front.kept["plans"] + "/asked", trust_env=False).json()["asked"]
    return int(asked)


def _seen(front: Front) -> dict[str, int]:
    data = front.send(Request(method="GET", path="/catalogue/cache")).data
    assert isinstance(data, dict)
    return data


def _steer(front: Front, path: str, **values: object) -> None:
    httpx.put(front.kept["plans"] + path, json=values, trust_env=False).raise_for_status()


SECTION = Section(
    "Cache",
    (
        Herd(what=f"{HERD} want the catalogue at once: one asks the source, all get its answer"),
        Hits(what="who comes later is answered by the cache"),
        Again(what="and who has it already gets headers only", send=READ),
        Exchange(
            what="a price changes: whatever carries the tag of the catalogue is dropped",
            send=Request(method="PUT", path="/catalogue/team", json={"price": 14}),
            expect=Expect(status=204, empty=True),
        ),
        Exchange(
            what="the next one gets the new price",
            send=READ,
            expect=Expect(
                status=200,
                headers={"cache-control": "no-cache"},
                body={"plans": [{"name": "free"}, {"name": "team", "price": 14}, {"price": 40}]},
            ),
        ),
        Exchange(
            what="there is no such plan",
            send=Request(method="PUT", path="/catalogue/gold", json={"price": 1}),
            expect=refused(404, "PLAN_NOT_FOUND"),
        ),
        Outage(
            what="the source is down: what it said last is served; then it is back, and so is what it says"
        ),
    ),
)
