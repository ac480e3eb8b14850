"""Operations and scripts as values: what they show, what they weigh."""

from collections import OrderedDict, deque
from typing import Any

import pytest

from backendkit.core.operation import DELETE, KEEP, Change, Operation, Script, weigh_state


def fold(*_: Any) -> Change:
    """Change nothing."""
    return Change((), [])


def test_an_operation_shows_neither_arguments_nor_states() -> None:
    """They may be tokens, or what a user cached; keys and the script's name are what a log needs."""
    script = Script("cache.set", lua="return {}", fold=fold)
    operation = Operation(script, (b"k1", b"k2"), (b"hunter2", 7), len)
    assert repr(operation) == "Operation('cache.set', keys=(b'k1', b'k2'), 2 args)"
    assert repr(script) == "Script('cache.set')"
    assert (repr(KEEP), repr(DELETE)) == ("KEEP", "DELETE")


def test_a_script_is_equal_to_itself_alone() -> None:
    """Its text may be another's; its name and counts are its own."""
    one, other = (Script("s", lua="return {}", fold=fold) for _ in range(2))
    assert one == one  # noqa: PLR0124  # that is the claim
    assert one != other
    assert len({one, other}) == 2


def test_a_script_is_quick_and_lasting_unless_it_says_so() -> None:
    """What may be forgotten, and what takes long, is marked."""
    plain = Script("s", lua="", fold=fold)
    assert (plain.evictable, plain.slow, plain.weigh) == (False, False, weigh_state)
    marked = Script("s", lua="", fold=fold, evictable=True, slow=True, weigh=len)
    assert (marked.evictable, marked.slow, marked.weigh) == (True, True, len)


@pytest.mark.parametrize(
    ("state", "weight"),
    [
        (0, 32),
        (2**53, 32),
        (1.5, 32),
        (b"", 56),
        (b"x" * 1000, 1056),
        ("x" * 1000, 1056),
        ((), 64),
        ((1, 2), 144),
        ([1, b"x" * 500], 64 + 40 + 540),
        ((1, "x" * 500), 64 + 40 + 540),
        ([0] * 17, 64 + 17 * 40),
        ([b"x" * 500] * 17, 64 + 17 * 540),  # judged by its first items
        ([0] * 16 + [b"x" * 500], 64 + 17 * 40),
        (deque([1, 2]), 64 + 80),
        ({1: 2}, 64 + 80),
        (OrderedDict(a=b"x" * 999), 64 + 80 + 1 + 999),
        (deque(), 64),
        (None, 256),
        (object(), 256),
        (True, 256),  # of a type that is looked for exactly
    ],
)
def test_a_state_weighs_about_what_it_takes(state: object, weight: int) -> None:
    """Cheaply: by type and length, one level deep, and by its first items where it is long."""
    assert weigh_state(state) == weight
