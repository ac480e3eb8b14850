"""Forks: what holds locks and connections is made anew in the child, once, and held by nobody for that."""

import gc
import weakref

from backendkit.core.fork import remake_after_fork
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
        "import os; del os.register_at_fork\n"
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
