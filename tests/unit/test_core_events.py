"""Events: who asked is told, and no hook harms the work that emits."""

import gc
import logging
import sys
import threading
import weakref
from dataclasses import FrozenInstanceError, dataclass

import pytest

from backendkit.core.events import Event, Hooks
from tests.ground.loops import in_fork, in_threads


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """One kind."""

    route: str


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """Another."""


@dataclass
class Unhashable:
    """A hook that compares by value, and so cannot be hashed."""

    calls: int = 0

    def __call__(self, event: Event) -> None:
        """Raise."""
        self.calls += 1
        raise LookupError(event)


def test_each_hook_gets_what_it_asked_for_in_order() -> None:
    """All kinds, one kind, or several; a kind brings what derives from it."""
    hooks, seen = Hooks(), list[tuple[str, Event]]()
    hooks.add(lambda e: seen.append(("all", e)))
    hooks.add(lambda e: seen.append(("opened", e)), Opened)
    hooks.add(lambda e: seen.append(("both", e)), Opened, Closed)
    hooks.emit(Opened("a"))
    hooks.emit(Closed())
    assert seen == [
        ("all", Opened("a")),
        ("opened", Opened("a")),
        ("both", Opened("a")),
        ("all", Closed()),
        ("both", Closed()),
    ]


def test_an_emitter_knows_whether_anybody_listens() -> None:
    """So that it need not build the record."""
    hooks = Hooks()
    assert not hooks
    remove = hooks.add(print)
    assert hooks
    remove()
    assert not hooks


def test_a_hook_that_was_removed_is_not_called() -> None:
    """Removing twice does nothing; the same hook added twice is two."""
    hooks, seen = Hooks(), list[Event]()
    remove = hooks.add(seen.append)
    hooks.add(seen.append)
    hooks.emit(Closed())
    assert len(seen) == 2
    remove()
    remove()
    hooks.emit(Closed())
    assert len(seen) == 3


def test_a_hook_may_remove_itself_and_add_others() -> None:
    """While it is being called: whoever was there when the event came is told."""
    hooks, seen = Hooks(), list[str]()

    def once(event: Event) -> None:
        seen.append("once")
        remove()
        hooks.add(lambda _: seen.append("late"))

    remove = hooks.add(once)
    hooks.add(lambda _: seen.append("other"))
    hooks.emit(Closed())
    hooks.emit(Closed())
    assert seen == ["once", "other", "other", "late"]


@pytest.mark.parametrize("hashable", [True, False])
def test_a_hook_that_raises_is_contained_and_reported_once(
    caplog: pytest.LogCaptureFixture, *, hashable: bool
) -> None:
    """The others are told all the same, and so is it, the next time."""
    hooks, seen = Hooks(), list[Event]()
    culprit = Unhashable()
    hooks.add(culprit.__call__ if hashable else culprit)
    hooks.add(seen.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            hooks.emit(Opened("a"))
    assert culprit.calls == len(seen) == 3
    (record,) = caplog.records
    assert record.name == "backendkit.events"
    assert record.getMessage() == (
        "an event hook raised on Opened; further errors of it are not reported"
    )
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError


def test_each_hook_that_raises_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each, and anew when it is added anew."""
    hooks = Hooks()
    removes = [hooks.add(Unhashable()) for _ in range(3)]
    hooks.emit(Closed())
    assert len(caplog.records) == 3
    removes[0]()
    hooks.add(Unhashable())
    hooks.emit(Closed())
    assert len(caplog.records) == 4


def test_what_ends_the_program_is_not_contained() -> None:
    """An interrupt stays one."""

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    hooks = Hooks()
    hooks.add(interrupt)
    with pytest.raises(KeyboardInterrupt):
        hooks.emit(Closed())


def test_a_removed_hook_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was reported (to nobody here, for a log record would hold its frames)."""
    monkeypatch.setattr(logging.getLogger("backendkit.events"), "disabled", True)
    hooks, culprit = Hooks(), Unhashable()
    remove = hooks.add(culprit)
    hooks.emit(Closed())
    remove()
    gone = weakref.ref(culprit)
    del culprit, remove
    gc.collect()
    assert gone() is None


def test_hooks_come_and_go_from_many_threads() -> None:
    """None is lost."""
    hooks = Hooks()

    def work(_: int) -> None:
        for _ in range(200):
            remove = hooks.add(lambda _: None)
            hooks.emit(Closed())
            remove()
        hooks.add(lambda _: None)

    in_threads(8, work)
    assert len(hooks._hooks) == 8


def test_a_fork_among_threads_leaves_no_lock_behind() -> None:
    """Whatever another thread was doing: the child adds a hook, and is told."""
    hooks = Hooks()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            hooks.add(lambda _: None)()

    def child() -> int:
        told: list[Event] = []
        hooks.add(told.append)
        hooks.emit(Closed())
        return len(told)

    busy = [threading.Thread(target=work) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in busy:
            thread.start()
        told = [in_fork(child) for _ in range(20)]
    finally:
        done.set()
        for thread in busy:
            thread.join()
        sys.setswitchinterval(interval)
    assert told == [1] * 20


def test_a_record_does_not_change() -> None:
    """Hooks share it."""
    event = Opened("a")
    with pytest.raises(FrozenInstanceError):
        event.route = "b"  # type: ignore[misc]  # refused on purpose
