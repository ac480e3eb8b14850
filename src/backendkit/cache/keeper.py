"""The one thread that a store has for all its caches: it listens, sends heartbeats, renews leases, sends what waits.

It sleeps on its sockets until a message comes or something is due, so that an idle process does next to nothing. It
starts with the first use of a second tier, again after a fork, and ends when the last cache has gone or the store is
closed. It never runs a loader. Caches and stores are held weakly while it sleeps; one cache's trouble is none of the
others'.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from backendkit.cache import events
from backendkit.cache.behind import Behind
from backendkit.cache.channel import Channel, Ear
from backendkit.cache.core import Core
from backendkit.core.clock import Clock, SystemClock, seconds_of
from backendkit.core.errors import StoreClosed, StoreError
from backendkit.core.fork import remake_after_fork
from backendkit.core.store import Broadcasts, Listener


class Member(Protocol):
    """What the thread does for one cache."""

    @property
    def core(self) -> Core | None:
        """The cache's core while that lives."""
        ...

    @property
    def ear(self) -> Ear | None:
        """Its part of the channel; None: it does not listen."""
        ...

    def tend(self, core: Core, now: float) -> float:
        """Do what is due, and return when there is something again."""
        ...

    def replay(self, core: Core) -> None:
        """Repeat recent invalidations where another server answers now."""
        ...


class Keeper:
    """A store's thread, and for which caches it works. Any thread may call it.

    Args:
        clock: the store's.
        broadcasts: what to listen to; None: there is no channel.

    Attributes:
        now: seconds on that clock.
        behind: threads for loads behind callers that block.
        sleeps_until: when the thread looks around by itself; whoever needs it earlier wakes it.
        term: another object after each end of the store: who has joined before has to do so again.
    """

    def __init__(self, clock: Clock, broadcasts: Broadcasts | None) -> None:
        self.now = seconds_of(clock)
        self.behind = Behind()
        self._broadcasts = broadcasts
        self._channel: Channel | None = None
        self._alarm = Alarm()
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: thread and sockets are the parent's."""
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._members: list[weakref.ref[Member]] = []
        self._alarm.close()
        self._alarm = Alarm()
        if self._channel is not None:
            self._channel.abandon()
        self._channel = None if self._broadcasts is None else Channel(self._broadcasts, self.now)
        self.sleeps_until = -math.inf
        self.term = object()

    @property
    def runs(self) -> bool:
        """Whether its thread runs; one that dies says so."""
        return self._thread is not None

    def join(self, member: Member) -> None:
        """Work for a cache from now on, in a thread that is started where none runs."""
        with self._lock:
            if not any(ref() is member for ref in self._members):
                self._members.append(weakref.ref(member, self._forget))
            if self._thread is None:
                self._start()
        self.wake()

    def leave(self, member: Member) -> None:
        """Work for a cache no more; where it was the last, the thread ends, which is waited for for a moment."""
        with self._lock:
            self._members = [ref for ref in self._members if ref() not in (member, None)]
        self._settle()

    def store_closed(self) -> None:
        """Work for nobody any more: who uses the store again joins again."""
        with self._lock:
            self._members = []
            self.term = object()
        self._settle()

    def wake(self) -> None:
        """Have the thread look around; never waits, not even where the garbage collector calls it."""
        self._alarm.ring()

    def members(self) -> list[Member]:
        """Return for whom it works."""
        found = (ref() for ref in list(self._members))
        return [member for member in found if member is not None]

    def _forget(self, _: weakref.ref[Member]) -> None:
        self.wake()

    def _settle(self) -> None:
        self.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and not self._members:
            thread.join(_FAREWELL_S)

    def _start(self) -> None:
        self._alarm.open()
        thread = threading.Thread(target=self._live, name="backendkit-cache", daemon=True)
        self._thread = (
            thread  # before it runs: who asks meanwhile, from a finalizer, starts no second one
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads: without one entries count less long
            self._thread = None
            self._alarm.close()

    def _live(self) -> None:
        turns = Turns(self, self._channel)
        try:
            while self._goes_on():
                turns.turn(self._alarm)
        finally:
            with self._lock:  # who joins from now on starts another, which finds all in order
                if self._thread is threading.current_thread():
                    self._thread = None
                    self._alarm.close()
                    lost = [] if self._channel is None else self._channel.end()
                else:
                    lost = []
            for ear in lost:
                ear.mourn("nobody keeps it open")

    def _goes_on(self) -> bool:
        with self._lock:
            self._members = [ref for ref in self._members if ref() is not None]
            return bool(self._members)


_REAL = SystemClock()

_GATHER_US = 500
"""How long messages gather before they are handled: whoever sends many, this process included, is then not interrupted
for each, which costs it more than the sending."""


class Turns:
    """What one thread does, turn by turn, and when it is due.

    Args:
        keeper: whose.
        channel: to keep open, if there is one.
    """

    def __init__(self, keeper: Keeper, channel: Channel | None) -> None:
        self._keeper = keeper
        self._channel = channel
        self._beat_at = self._open_at = -math.inf
        self._pause = 0.0
        self._trouble = 0.0
        self._rejoin_at: dict[Ear, float] = {}

    def turn(self, alarm: Alarm) -> None:
        """Do what is due, then sleep until a message comes or something is due again."""
        try:
            self._keeper.sleeps_until = math.inf  # whatever is asked for from now on wakes us
            until = self._work(self._keeper.members())
            self._keeper.sleeps_until = until
            self._sleep(alarm, until - self._keeper.now())
            self._trouble = 0.0
        except Exception as error:  # noqa: BLE001 - a fault of ours or a user's hook: it must not end the thread
            self._fail(error)
            self._trouble = min(max(2 * self._trouble, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            threading.Event().wait(self._trouble)

    def _work(self, members: Sequence[Member]) -> float:
        """Do what is due; return when there is something to do again."""
        try:
            until, listening = self._tend(members)
            if self._channel is not None:
                until = min(until, self._listen(self._channel, listening))
        except StoreClosed:
            self._keeper.store_closed()
            return -math.inf
        except StoreError as error:
            self._lose(error.reason)
            return self._keeper.now() + _FIRST_PAUSE_S
        return until

    def _tend(self, members: Sequence[Member]) -> tuple[float, list[tuple[Member, Core]]]:
        """See to leases and queues; return when there is something to do again, and who wants to listen."""
        until = math.inf
        listening: list[tuple[Member, Core]] = []
        for member in members:
            core = member.core
            if core is None:
                continue
            try:
                until = min(until, member.tend(core, self._keeper.now()))
            except StoreClosed:
                raise
            except Exception as error:  # noqa: BLE001 - as in `turn`
                core.tell(events.UpkeepFailed(type(error).__name__))
                until = min(until, self._keeper.now() + _LONGEST_PAUSE_S)
            if member.ear is not None:
                listening.append((member, core))
        return until, listening

    def _listen(self, channel: Channel, listening: Sequence[tuple[Member, Core]]) -> float:
        """Keep the channel as it shall be; return when there is something to do again."""
        wanted = [member.ear for member, _ in listening if member.ear is not None]
        for ear in channel.ears:
            if ear not in wanted:
                channel.leave(ear)
                self._rejoin_at.pop(ear, None)
        if not wanted:
            channel.abandon()
            return math.inf
        now = self._keeper.now()
        if not channel.up and now < self._open_at:
            return self._open_at
        if not channel.up:
            self._open_at = now + self._next_pause()
            self._join(channel, wanted, now)  # first: who is known is told where it fails
            self._open(channel, listening)
        self._join(channel, wanted, now)
        if now >= self._beat_at:
            self._beat_at = now + channel.staleness * _BEAT_SHARE
            channel.beat()
        return min(self._beat_at, *self._rejoin_at.values(), math.inf)

    def _join(self, channel: Channel, wanted: Sequence[Ear], now: float) -> None:
        heard = channel.ears
        for ear in wanted:
            if ear not in heard or self._rejoin_at.get(ear, math.inf) <= now:
                self._rejoin_at.pop(ear, None)
                channel.join(ear)
                self._beat_at = now  # its answer is what trust begins with

    def _open(self, channel: Channel, listening: Sequence[tuple[Member, Core]]) -> None:
        self._beat_at = -math.inf
        if not channel.open():
            return
        try:
            for member, core in listening:
                member.replay(core)
        except StoreError:
            channel.identities = {}  # another than before, still
            raise

    def _sleep(self, alarm: Alarm, seconds: float) -> None:
        channel = self._channel
        lines = [] if channel is None else channel.lines
        try:
            pending = any(line.pending for line in lines)
            ready = alarm.wait(lines, 0.0 if pending else seconds)
            if ready and not pending:
                _REAL.sleep(_GATHER_US)
            for line in lines:
                if channel is not None and (line.pending or line in ready):
                    self._note(channel.read(line))
                    self._pause = 0.0 if channel.steady else self._pause
        except StoreError as error:
            self._lose(error.reason)

    def _note(self, failed: Sequence[tuple[Ear, Exception]]) -> None:
        for ear, error in failed:
            self._rejoin_at[ear] = self._keeper.now() + _LONGEST_PAUSE_S
            core = ear.core
            if core is not None:
                with suppress(Exception):  # it may be what has failed
                    core.local.flush()
                core.tell(events.UpkeepFailed(type(error).__name__))

    def _lose(self, reason: str) -> None:
        if self._channel is not None:
            self._channel.close(reason)

    def _next_pause(self) -> float:
        """Return how long after this attempt to listen the next one may come."""
        pause, self._pause = (
            self._pause,
            min(max(2 * self._pause, _FIRST_PAUSE_S), _LONGEST_PAUSE_S),
        )
        return pause

    def _fail(self, error: Exception) -> None:
        """Trust nothing, and tell everybody."""
        with suppress(Exception):
            self._lose(type(error).__name__)
        for member in self._keeper.members():
            core = member.core
            if core is not None:
                with suppress(Exception):
                    core.tell(events.UpkeepFailed(type(error).__name__))


class Alarm:
    """Wakes one thread that waits for sockets; from any thread, from a finalizer, at any time."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def open(self) -> None:
        """Get ready; does nothing where it is."""
        if self._ends is None:
            here, there = socket.socketpair()
            here.settimeout(0)
            there.settimeout(0)
            self._ends = here, there

    def close(self) -> None:
        """Give the sockets back."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()

    def ring(self) -> None:
        """Wake whoever waits, or will wait next."""
        ends = self._ends
        if ends is not None:
            with suppress(OSError):  # closed this very moment, or so full that it rings already
                ends[1].send(b"\0")

    def wait(self, lines: Sequence[Listener], seconds: float) -> list[Listener]:
        """Return which of `lines` have something to read, after at most `seconds`; earlier if it rings.

        Raises:
            StoreError: one of them is lost.
        """
        ends = self._ends
        if ends is None:
            return []
        with _Selector() as selector:
            selector.register(ends[0], selectors.EVENT_READ)
            for line in lines:
                selector.register(line.fileno(), selectors.EVENT_READ, line)
            timeout = min(max(seconds, 0.0), _LONGEST_SLEEP_S)
            ready = [key.data for key, _ in selector.select(timeout)]
        with suppress(OSError):  # nothing more to read
            while ends[0].recv(4_096):
                pass
        return [line for line in ready if line is not None]


def keeper_of(broadcasts: Broadcasts) -> Keeper:
    """Make the keeper of a store that can be listened to."""
    return Keeper(broadcasts.clock, broadcasts)


_Selector: Callable[[], selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
"""Not epoll: a fork would share it."""

_BEAT_SHARE = 0.25
"""Heartbeats come so often in the staleness allowed."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""Between attempts to listen again; the first comes at once."""

_FAREWELL_S = 0.4
"""Who closes the last cache waits so long at the most."""

_LONGEST_SLEEP_S = 3_600.0
"""What a selector can count."""
