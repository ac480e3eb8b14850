"""Breakers by name, and by host: made when first asked for, of one configuration, and never more than there is room for.

A crawler meets hosts without end, so that the least recently used breaker goes where there is no room. It goes only if nothing is
lost: an open one stays until its time is over, one that was set by hand stays. Where nothing may go, whoever is new shares
one breaker with the others who found no room.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Unpack, cast

from backendkit.core import checks
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.core.fork import remake_after_fork
from backendkit.resilience.arguments import BreakerArguments
from backendkit.resilience.asking import guarded
from backendkit.resilience.decide.circuit import Mode
from backendkit.resilience.face import CircuitBreaker
from backendkit.resilience.machine import Totals
from backendkit.resilience.policy import BreakerOptions, BreakerPolicy

MAX_SIZE = 10_000
"""Breakers that a registry keeps unless told otherwise; about 4 KiB each."""

LOOKED_AT = 16
"""Breakers that are looked at to find one that may go."""

OTHERS = "*"
"""The host of the breaker that those share for whom there is no room."""


class Group:
    """The circuits of one name, of which only a share may be open at once.

    Args:
        share: of them that may be open, above 0 and at most 1; at least one circuit may.

    Attributes:
        lock: within which they all change.
        size: how many there are.
        opened: how many are open or half-open.
    """

    __slots__ = ("_share", "lock", "opened", "size")

    def __init__(self, share: float) -> None:
        self.lock = threading.Lock()
        self.size = self.opened = 0
        self._share = share

    def may_open(self) -> bool:
        """Tell, under the lock, whether one more may open."""
        return self.opened < max(1, int(self._share * self.size))

    def moved(self, old: Mode, new: Mode) -> None:
        """Take note, under the lock, that one has moved."""
        self.opened += (new in _OPEN) - (old in _OPEN)

    def joined(self) -> None:
        """Take note of a new one."""
        with self.lock:
            self.size += 1

    def left(self, mode: Mode) -> None:
        """Take note, under the lock, that one is no longer among them."""
        self.moved(mode, "closed")
        self.size -= 1


class CircuitRegistry:
    """Breakers by name and host. Safe to use from any thread.

    Args:
        policy: the options of each breaker whose name was not configured.
        max_size: how many breakers are kept, 1..1,000,000.
        max_open_share: the share of a name's hosts that may be open at once, above 0 and at most 1: where most of
            them fail the fault is likely one's own. At least one may open. An opening that is refused is a
            `CircuitKeptClosed`. Over a shared store each process counts the hosts that it knows.
        clock: None: the machine's.
        **defaults: further arguments of `CircuitBreaker`, for all: `store` to share them, `hooks` that they tell.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        max_size: int = MAX_SIZE,
        max_open_share: float = 1.0,
        clock: Clock | None = None,
        **defaults: Unpack[BreakerArguments],
    ) -> None:
        given = cast("dict[str, Any]", defaults)
        hooks: Hooks | None = given.get("hooks")
        self.hooks = Hooks() if hooks is None else hooks
        self._max_size = checks.whole("max_size", max_size, least=1, most=1_000_000)
        if isinstance(max_open_share, bool) or not 0 < max_open_share <= 1:
            raise InvalidArgument("max_open_share", "must be above 0 and at most 1", max_open_share)
        self._share = max_open_share
        self._clock: Clock = SystemClock() if clock is None else clock
        self._defaults = {**given, "policy": policy, "hooks": self.hooks}
        if given.get("store") is not None:
            self._defaults["store"] = guarded(given["store"])  # one guard for all
        self._configured: dict[str, dict[str, Any]] = {}
        self._kept: OrderedDict[tuple[str, str | None], CircuitBreaker] = OrderedDict()
        self._others: dict[str, CircuitBreaker] = {}
        self._groups: dict[str, Group] = {}
        self._gone: dict[str, Totals] = {}
        self._lock = threading.Lock()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Let go of a lock that another thread of the parent held."""
        self._lock = threading.Lock()

    def configure(self, name: str, **options: Unpack[BreakerArguments]) -> None:
        """Give a name, and all its hosts, options that win over the registry's; also those that exist take them.

        What a name was given before is forgotten. Of breakers that exist only the options of `BreakerPolicy` change.

        Raises:
            InvalidArgument: naming the option, its rule and the value.
        """
        given = cast("dict[str, Any]", options)
        # Raises where it makes no sense.
        policy = self._made(name, None, {**self._defaults, **given}, None).policy
        with self._lock:
            self._configured[name] = given
            members = [breaker for (of, _), breaker in self._kept.items() if of == name]
            members += [self._others[name]] if name in self._others else []
        for breaker in members:
            breaker.reconfigure(**cast("BreakerOptions", asdict(policy)))

    def get(self, name: str, host: str | None = None) -> CircuitBreaker:
        """Return the breaker of a name, or of a host under it; it is made at the first question.

        Args:
            name: 1..128 printable ASCII characters.
            host: any text, lower-case and without a default port if the same host shall be one; None: of the name itself.
        """
        with self._lock:
            breaker = self._kept.get((name, host))
            if breaker is None:
                return self._add(name, host)
            self._kept.move_to_end((name, host))
            return breaker

    def __iter__(self) -> Iterator[CircuitBreaker]:
        """Walk the breakers that there are now."""
        with self._lock:
            return iter([*self._kept.values(), *self._others.values()])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept) + len(self._others)

    def by_name(self) -> dict[str, tuple[list[CircuitBreaker], Totals]]:
        """Return, by name, the breakers that there are now, and the outcomes of those that went."""
        with self._lock:
            found: dict[str, tuple[list[CircuitBreaker], Totals]] = {}
            for name, gone in self._gone.items():
                found[name] = ([], gone)
            members = [(name, breaker) for (name, _), breaker in self._kept.items()]
            for name, breaker in (*members, *self._others.items()):
                found.setdefault(name, ([], _NONE))[0].append(breaker)
            return found

    def find(self, full_name: str) -> CircuitBreaker | None:
        """Return the breaker that has this name, like `payments` or `payments/api.example.com`; None: there is none."""
        return next((breaker for breaker in self if breaker.name == full_name), None)

    def _add(self, name: str, host: str | None) -> CircuitBreaker:
        if len(self._kept) >= self._max_size and not self._make_room():
            if name not in self._others:
                self._others[name] = self._made(name, OTHERS, self._options(name), None)
            return self._others[name]
        group = None
        if host is not None and self._share < 1:
            group = self._groups.setdefault(name, Group(self._share))
        breaker = self._made(name, host, self._options(name), group)
        if group is not None:
            group.joined()
        self._kept[name, host] = breaker
        return breaker

    def _options(self, name: str) -> dict[str, Any]:
        return {**self._defaults, **self._configured.get(name, {})}

    def _made(
        self, name: str, host: str | None, options: dict[str, Any], group: Group | None
    ) -> CircuitBreaker:
        full = name if host is None else f"{name}/{host}"
        make: Callable[..., CircuitBreaker] = CircuitBreaker
        return make(_shown(full), **options, clock=self._clock, group=group)

    def _make_room(self) -> bool:
        """Let the least recently used one go of which nothing would be lost; return whether there was one."""
        for _ in range(min(LOOKED_AT, len(self._kept))):
            (name, host), breaker = next(iter(self._kept.items()))
            if breaker.idle:
                del self._kept[name, host]
                breaker.leave_group()
                self._gone[name] = added(self._gone.get(name, _NONE), breaker.totals)
                return True
            self._kept.move_to_end((name, host))
        return False


def _shown(name: str) -> str:
    """Return a name of at most 128 printable characters; what does not fit is told apart by its digest."""
    if len(name) <= 128 and name.isascii() and name.isprintable():
        return name
    from hashlib import blake2b  # noqa: PLC0415 - hardly any host is like this

    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    readable = name.encode("ascii", "replace").decode()[:90]
    return "".join(c if c.isprintable() else "?" for c in readable) + "#" + digest


def added(one: Totals, other: Totals) -> Totals:
    """Return the outcomes of two."""
    return Totals(*map(sum, zip(one, other, strict=True)))


_NONE = Totals(0, 0, 0, 0, 0)
_OPEN = {"open", "half-open", "forced-open"}
