"""The tree of errors: as drawn, and each of them travels whole."""

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.core import errors
from backendkit.core.errors import AppError, CrossSlot, InvalidArgument, MissingExtra, RateLimited

TREE = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)
]


class Teapot(AppError):
    """An application's own."""

    code = "TEAPOT"
    status = 418
    message = "I am a {kind} teapot"


class Picky(AppError):
    """One whose constructor takes something else."""

    def __init__(self, needed: int, *, also: str) -> None:
        super().__init__(f"{needed} {also}")
        self.needed = needed


class Hostile:
    """A parameter that cannot be shown."""

    def __format__(self, spec: str) -> str:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


MAKERS: dict[type[AppError], Callable[[], AppError]] = {
    InvalidArgument: lambda: InvalidArgument("n", "must be even", 3, fix="pass 4"),
    CrossSlot: lambda: CrossSlot("keys", "must lie in one slot", (b"a", b"b")),
    MissingExtra: lambda: MissingExtra("backendkit.flask", "Flask", "flask"),
    Picky: lambda: Picky(1, also="x"),
}


def make(kind: type[AppError]) -> AppError:
    """Return an error of a kind, as full as it can be."""
    if kind in MAKERS:
        return MAKERS[kind]()
    return kind("why", details=[{"issue": "x"}], headers={"A": "b"}, retry_after=1.5, kind="small")


def sent(error: AppError, how: int | str) -> AppError:
    """Return an error as another process would see it, or a copy."""
    if isinstance(how, int):
        again = pickle.loads(pickle.dumps(error, how))
        assert isinstance(again, AppError)
        return again
    return copy.deepcopy(error) if how == "deepcopy" else copy.copy(error)


@pytest.mark.parametrize("kind", [*TREE, Teapot, Picky], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", [*range(pickle.HIGHEST_PROTOCOL + 1), "copy", "deepcopy"])
def test_an_error_travels_whole(kind: type[AppError], protocol: Any) -> None:
    """Pickled to another process or copied: the same texts, the same data, none of it shared when deep."""
    error = make(kind)
    error.add_note("seen on the way")
    again = sent(error, protocol)
    assert type(again) is kind
    assert again is not error
    assert (str(again), again.text, again.args) == (str(error), error.text, error.args)
    assert vars(again) == vars(error)
    if protocol == "deepcopy":
        again.details.append({"issue": "y"})
        assert again.details != error.details


def test_a_copy_has_no_part_in_its_originals_traceback() -> None:
    """So that one failure can be told to many callers."""
    original = RateLimited("why")
    with pytest.raises(RateLimited):
        raise original
    again = copy.copy(original)
    assert again.__traceback__ is None
    assert original.__traceback__ is not None


def test_the_tree_is_as_drawn() -> None:
    """Names, parents, statuses and codes of the module's docstring are those of the classes, and none is missing."""
    drawn: list[tuple[str, str, int, str]] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:│   |    )*(?:[├└]── )?)(\w+) +(\d{3}) +([A-Z_]+)(?: |$)", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            drawn.append((found[2], path[depth - 1] if depth else "", int(found[3]), found[4]))
    real = [(k.__name__, parent_of(k), k.status, k.code) for k in TREE]
    assert sorted(drawn) == sorted(real)
    assert len(drawn) == 20


def parent_of(kind: type[AppError]) -> str:
    """Return the name of the first base, where that is one of ours."""
    return "" if kind is AppError else kind.__bases__[0].__name__


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_each_has_a_code_a_status_and_a_message(kind: type[AppError]) -> None:
    """The message is for strangers: it names no class and no host, and ends without a stop."""
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)
    assert 400 <= kind.status <= 599
    assert kind.message
    assert not kind.message.endswith(".")
    assert kind.__doc__
    assert make(kind).status_code == kind.status


def test_codes_are_each_ones_own() -> None:
    """A client that looks at the code sees which it was."""
    assert len({kind.code for kind in TREE}) == len(TREE)


def test_some_are_also_what_python_would_raise() -> None:
    """So that code which knows nothing of us catches them."""
    assert isinstance(make(InvalidArgument), ValueError)
    assert isinstance(make(MissingExtra), ImportError)
    assert (
        str(make(MissingExtra)) == "backendkit.flask needs Flask: pip install 'backendkit[flask]'"
    )


def test_what_proves_that_nothing_ran_is_apart_from_what_does_not() -> None:
    """No error is both, for one may be sent again."""
    for kind in TREE:
        assert not (issubclass(kind, errors.NotSent) and issubclass(kind, errors.OutcomeUnknown))


def test_the_message_is_filled_in_and_the_reason_stays_inside() -> None:
    """Two texts, for two readers."""
    error = Teapot("redis-7.internal is down", kind="short")
    assert error.text == "I am a short teapot"
    assert str(error) == "redis-7.internal is down"
    assert error.args == ("redis-7.internal is down",)


def test_without_a_reason_the_message_stands_in() -> None:
    """An error is never without words."""
    assert str(Teapot(kind="short")) == "I am a short teapot"
    assert str(AppError()) == "Internal server error"


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "I am a {kind} teapot"),
        ({"other": 1}, "I am a {kind} teapot"),
        ({"kind": Hostile()}, "I am a {kind} teapot"),
        ({"kind": "{kind}"}, "I am a {kind} teapot"),
        ({"kind": None}, "I am a None teapot"),
    ],
)
def test_a_parameter_that_cannot_be_shown_stays_a_name(params: dict[str, Any], text: str) -> None:
    """Rendering an error never fails, whatever an application put in."""
    error = Teapot(**params)
    assert error.text == text
    assert str(error) == text


@pytest.mark.parametrize("message", ["{0}", "{}", "{", "}", "{kind.x.y}", "{kind[9]}", "{kind!z}"])
def test_a_template_that_cannot_be_filled_is_shown_as_it_is(message: str) -> None:
    """Also one that came from elsewhere and is none."""
    error = Teapot(kind="short")
    error.message = message
    assert error.text == message


def test_what_is_passed_is_copied() -> None:
    """A caller's dictionary that changes later changes no error."""
    headers, details = {"A": "b"}, [{"issue": "x"}]
    error = AppError(headers=headers, details=details)
    headers["C"] = "d"
    details.append({"issue": "y"})
    assert error.headers == {"A": "b"}
    assert error.details == [{"issue": "x"}]


def test_a_wrong_argument_says_what_to_do() -> None:
    """Argument, rule, value; then the way out on a line of its own."""
    error = InvalidArgument("n", "must be even", 3, fix="pass 4")
    assert str(error) == "n must be even, got 3\nTo fix it: pass 4"
    assert (error.argument, error.rule, error.value) == ("n", "must be even", 3)
    assert error.text == "Internal server error"


def test_a_wrong_value_that_cannot_be_shown_is_named_by_its_type() -> None:
    """And one that is long is cut."""
    assert (
        str(InvalidArgument("n", "must", Hostile())) == "n must, got <a Hostile whose repr fails>"
    )
    shown = str(InvalidArgument("n", "must", "x" * 10_000))
    assert len(shown) < 250
    assert shown.endswith("...")
