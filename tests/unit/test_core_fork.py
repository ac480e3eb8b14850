"""Forks: what holds locks and connections is made anew in the child, once, and held by nobody for that."""

import gc
import threading
import weakref
from typing import Any

from backendkit.core import fork
from backendkit.core.fork import hold_during_fork, remake_after_fork
from tests.ground.loops import in_fork, in_subprocess


class Member:
    """Counts how often it was made anew."""

    def __init__(self) -> None:
        self.remade = 0

    def after_fork_in_child(self) -> None:
        """Count."""
        self.remade += 1


def test_each_member_is_remade_once_in_the_child() -> None:
    """Also one that registered twice; never in the parent."""
    members = [Member() for _ in range(3)]
    for member in (*members, members[0]):
        remake_after_fork(member)
    assert in_fork(lambda: [member.remade for member in members]) == [1, 1, 1]
    assert [member.remade for member in members] == [0, 0, 0]


def test_a_grandchild_is_remade_again() -> None:
    """Its parent is a child."""
    member = Member()
    remake_after_fork(member)
    assert in_fork(lambda: (member.remade, in_fork(lambda: member.remade))) == (1, 2)


def test_where_nothing_forks_members_may_register_all_the_same() -> None:
    """Python on Windows has no such hook."""
    source = (
        "import asyncio, logging, os, random; del os.register_at_fork\n"
        "from backendkit.stores import MemoryStore\n"
        "print(MemoryStore().stats().entries)"
    )
    assert in_subprocess(source) == "0\n"


def test_a_member_is_not_kept_alive() -> None:
    """The registry knows only who is there."""
    member = Member()
    remake_after_fork(member)
    gone = weakref.ref(member)
    del member
    gc.collect()
    assert gone() is None


class Locked:
    """State under a lock."""

    def __init__(self, lock: threading.Lock) -> None:
        self.fork_lock = lock


def test_a_lock_is_held_while_the_process_forks_and_free_on_both_sides() -> None:
    """Two members that share one lock do not wait for each other."""
    lock = threading.Lock()
    members = [Locked(lock), Locked(lock), Locked(threading.Lock())]
    for member in members:
        hold_during_fork(member)
    assert in_fork(lambda: [member.fork_lock.locked() for member in members]) == [False] * 3
    assert [member.fork_lock.locked() for member in members] == [False] * 3


class Handed:
    """A lock whose release lets whoever waits for it run first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.released = threading.Event()

    def acquire(self) -> None:
        """Take it."""
        self.lock.acquire()

    def release(self) -> None:
        """Give it back, and wait until it was taken again."""
        self.lock.release()
        self.released.wait(0.2)


def test_two_threads_that_fork_at_once_take_turns() -> None:
    """The second's locks are not released by the first."""
    lock: Any = Handed()
    member = Locked(lock)
    hold_during_fork(member)
    kept: list[bool] = []

    def second() -> None:
        fork._before()
        lock.released.set()
        first_is_through.wait(10)
        kept.append(lock.lock.locked())
        fork._after_in_parent()

    first_is_through = threading.Event()
    fork._before()
    thread = threading.Thread(target=second)
    thread.start()
    fork._after_in_parent()
    first_is_through.set()
    thread.join()
    assert kept == [True]


def test_a_fork_waits_for_who_holds_the_lock() -> None:
    """What that thread is doing is done in the child."""
    member = Locked(threading.Lock())
    hold_during_fork(member)
    held, go_on, steps = threading.Event(), threading.Event(), [0]

    def work() -> None:
        with member.fork_lock:
            held.set()
            go_on.wait(10)
            steps[0] = 1

    thread = threading.Thread(target=work)
    thread.start()
    held.wait(10)
    threading.Timer(0.05, go_on.set).start()
    assert in_fork(lambda: steps[0]) == 1
    thread.join()
