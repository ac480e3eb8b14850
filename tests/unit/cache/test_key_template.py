"""Keys of calls: no two different calls share one, equal ones do, in every process."""

from __future__ import annotations

import string
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.cache import KeyTemplate
from backendkit.core.errors import InvalidArgument


class Colour(Enum):
    """An enum."""

    RED = "red"


class Level(IntEnum):
    """An enum whose members are numbers."""

    ONE = 1


class Pair(NamedTuple):
    """A tuple with a name."""

    left: int
    right: str


class Loud(str):
    """Text that escapes what it is added to."""

    __slots__ = ()

    def __radd__(self, other: str) -> str:
        """Shout."""
        return "LOUD"


def one(x: Any) -> None:
    """Take one argument."""


def two(x: Any, y: Any = 5, *, z: Any = None) -> None:
    """Take up to three."""


def star(x: Any, /, *rest: Any, **named: Any) -> None:
    """Take anything."""


SIMPLE = KeyTemplate("k:{x}", one)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (42, "42"), (-7, "-7"), ("anna", "anna"), ("42", "'42"), ("", "'"), ("a/b", "'a%2Fb"), ("a.b@c-d", "'a.b@c-d"),
        ("!T", "'%21T"), ("é", "'%C3%A9"), ("\ud800", "'%ED%A0%80"), (True, "!T"), (False, "!F"), (None, "!N"),
        (1.5, "!f1.5"), (1.0, "!f1.0"), (float("nan"), "!fnan"), (b"ab", "!bab"), (b"\xff:", "!b%C3%BF%3A"),
        (date(2026, 11, 20), "!d2026-11-20"), (time(1, 2), "!c01%3A02%3A00"), (timedelta(seconds=1), "!p1000000"),
        (datetime(2026, 1, 2, tzinfo=UTC), "!t2026-01-02T00%3A00%3A00+00%3A00"),
        (UUID(int=5), "!u" + "0" * 31 + "5"), (Decimal("1.50"), "!m1.50"), (Colour.RED, "!eColour.RED"),
        (Level.ONE, "!eLevel.ONE"), ((1, "a", (None,)), "(1,a,(!N))"), (Pair(1, "b"), "(1,b)"),
        (frozenset({"b", "a", 3}), "!s(3,a,b)"), ((), "()"), (Loud("plain"), "plain"), (Loud("9"), "'9"),
    ],
)  # fmt: skip
def test_a_value_is_written(value: object, text: str) -> None:
    """As the module's table says."""
    assert SIMPLE.key((value,), {}) == "k:" + text


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.binary(max_size=3) | st.text(max_size=4)
    | st.text("0123!'(),:%abT.", max_size=4) | st.dates() | st.datetimes() | st.times() | st.timedeltas()
    | st.uuids() | st.decimals(allow_nan=False) | st.sampled_from([Colour.RED, Level.ONE]),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def same(a: object, b: object) -> bool:
    """Tell whether two values are equal with the types of all that is in them."""
    return bool(told(a) == told(b))


def told(value: Any) -> Any:
    """Return a value with its types."""
    if isinstance(value, tuple):
        return "tuple", [told(item) for item in value]
    if isinstance(value, frozenset):
        return "frozenset", sorted(repr(told(item)) for item in value)
    return type(value).__name__, repr(value)


@given(st.tuples(values, values), st.tuples(values, values))
def test_different_calls_have_different_keys(one_: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    """And equal ones the same, whatever their types, separators and marks."""
    template = KeyTemplate("t:{x}:{y}", two)
    assert (template.key(one_, {}) == template.key(other, {})) == same(one_, other)


@given(values, values)
def test_keys_are_short_and_plain(x: Any, y: Any) -> None:
    """At most 200 characters of printable ASCII."""
    key = KeyTemplate("t:{x}|{y}", two).key((x, y), {})
    assert len(key) <= 200
    assert set(key) <= set(string.printable[:94])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2), {"z": 3}), ((1,), {"y": 2, "z": 3}), ((), {"z": 3, "y": 2, "x": 1})],
)
def test_a_call_has_one_key_however_it_is_written(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """By position, by name, in any order."""
    assert KeyTemplate("{x}:{y}:{z}", two).key(args, kwargs) == "1:2:3"


def test_defaults_count() -> None:
    """An argument that was left out is its default."""
    template = KeyTemplate("{x}:{y}:{z}", two)
    assert template.key((1,), {}) == template.key((1, 5), {"z": None}) == "1:5:!N"


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (two, (), {}), (two, (1, 2, 3), {}), (two, (1,), {"x": 1}), (two, (1,), {"w": 1}), (one, (), {}),
        (star, (), {"x": 1}), (two, (), {"y": 1}), (one, (1, 2), {"x": 1}),
    ],
)  # fmt: skip
def test_a_wrong_call_is_the_functions_own_error(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """A hit never hides that a call is wrong."""
    with pytest.raises(TypeError) as ours:
        KeyTemplate("k:{x}", function).key(args, kwargs)
    assert not isinstance(ours.value, InvalidArgument)


def test_keyword_only_arguments_must_be_there() -> None:
    """One without a default is asked for."""

    def function(*, key: int) -> None: ...

    template = KeyTemplate("k:{key}", function)
    assert template.key((), {"key": 1}) == "k:1"
    with pytest.raises(TypeError, match="key"):
        template.key((), {})


def test_starred_arguments_are_tuples() -> None:
    """Those by name in the order of their names."""
    template = KeyTemplate("{x}:{rest}:{named}", star)
    assert template.key((1, 2, 3), {"b": 4, "a": 5}) == "1:(2,3):((a,5),(b,4))"


def test_attributes_are_followed() -> None:
    """A field may lead into its argument."""
    template = KeyTemplate("d:{x.year}/{x.month}", one)
    assert template.key((date(2026, 11, 20),), {}) == "d:2026/11"


def test_braces_and_plain_text_stand() -> None:
    """Doubled braces are braces; a template without fields is one key."""
    assert KeyTemplate("a{{b}}:{x}:{{", one).key((1,), {}) == "a{b}:1:{"
    assert KeyTemplate("all", one).key((1,), {}) == "all"


def test_without_a_template_all_arguments_count() -> None:
    """Beside the function's module and name."""
    template = KeyTemplate(None, two)
    assert template.template == f"{__name__}.two:{{x}}:{{y}}:{{z}}"
    assert template.key((1,), {}) == f"{__name__}.two:1:5:!N"
    assert repr(KeyTemplate("k:{x}", one)) == f"KeyTemplate('k:{{x}}', {__name__}.one)"


def test_long_keys_are_hashed() -> None:
    """They keep their beginning, and differ by their end."""
    long = SIMPLE.key(("x" * 198,), {})
    longer = SIMPLE.key(("x" * 199,), {})
    other = SIMPLE.key(("x" * 198 + "y",), {})
    assert long == "k:" + "x" * 198
    assert longer != other
    assert len(longer) == len(other) == 64 + 1 + 40
    assert longer.startswith("k:xxx")


@pytest.mark.parametrize(
    "template", ["{y}", "{}", "{0}", "{x!r}", "{x:>3}", "{x", "{x[0]}", "{x.}", "", "a\nb", "{x}{x}", "{x}-{x}", "{x}.a,{x}"]
)  # fmt: skip
def test_a_template_that_cannot_work_is_refused_at_once(template: str) -> None:
    """With the argument's name in the message."""
    with pytest.raises(InvalidArgument, match="template"):
        KeyTemplate(template, one)


class Plain:
    """Nothing that has a place in a key."""

    def __repr__(self) -> str:
        """Show what must not be shown."""
        return "SECRET"


@pytest.mark.parametrize("value", [[1], {}, set(), Plain(), (1, [2]), bytearray(), object])
def test_what_can_change_has_no_key(value: object) -> None:
    """The error names the argument, its type and the way out, and shows nothing of the value."""
    with pytest.raises(InvalidArgument, match=r"^x must be text") as refused:
        SIMPLE.key((value,), {})
    assert "{x.id}" in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_keys_are_the_same_in_every_process() -> None:
    """Hash seeds do not reach them."""
    code = (
        "from backendkit.cache import KeyTemplate\n"
        "def f(a, b): ...\n"
        "print(KeyTemplate('{a}:{b}', f).key((frozenset(map(str, range(50))), ('x', 1)), {}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
