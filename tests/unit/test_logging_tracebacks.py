"""Tracebacks say what the standard library's say, for any exception whatever."""

from __future__ import annotations

import linecache
from typing import Any

import pytest

from backendkit.logging import Tracebacks

TELL = Tracebacks()


def raised(exc: Exception) -> Exception:
    """Return `exc` with a traceback."""
    try:
        raise exc  # noqa: TRY301 - raised to be caught
    except Exception as error:  # noqa: BLE001 - whatever the test wants
        return error


def chained() -> BaseException:
    """Return an error with a cause, which has a context."""
    try:
        try:
            try:
                raise KeyError("first")  # noqa: TRY301 - raised to be caught
            except KeyError:
                raise TypeError("second")  # noqa: B904 - a context is what is wanted
        except TypeError as error:
            raise ValueError("third") from error
    except ValueError as error:
        error.add_note("a note")
        return error


def test_a_chain_is_told_from_its_beginning() -> None:
    """In the order, and with the words, that everybody knows."""
    told = TELL.describe(chained())
    stack = told["stacktrace"]
    places = [stack.index(part) for part in ("KeyError: 'first'", "During handling", "TypeError: second", "direct cause", "ValueError: third", "a note")]  # fmt: skip
    assert places == sorted(places)
    assert 'in chained\n    raise ValueError("third") from error' in stack
    assert (told["type"], told["message"]) == ("ValueError", "third")


def test_a_context_that_is_suppressed_is_not_told() -> None:
    """`from None` says so."""
    try:
        try:
            raise KeyError("hidden")  # noqa: TRY301 - raised to be caught
        except KeyError:
            raise ValueError("x") from None
    except ValueError as error:
        assert "hidden" not in TELL.describe(error)["stacktrace"]  # noqa: PT017 - the traceback is what is looked at


def test_a_chain_that_bites_its_tail_ends() -> None:
    """Whoever sets `__cause__` may make a circle."""
    one, two = raised(ValueError("one")), raised(ValueError("two"))
    one.__cause__, two.__cause__ = two, one
    assert TELL.describe(one)["stacktrace"].count("ValueError: two") == 1
    first = error = raised(ValueError("0"))
    for number in range(1, 50):
        error.__cause__ = raised(ValueError(str(number)))
        error = error.__cause__
    assert TELL.describe(first)["stacktrace"].count("\nValueError: ") == 10


def test_groups_are_opened() -> None:
    """Members indented, those of members too; many and deep ones counted."""
    inner = ExceptionGroup("inner", [OSError(n) for n in range(12)])
    group = ExceptionGroup("outer", [raised(ValueError("a\nb")), inner, ValueError("c")])
    stack = TELL.describe(raised(group))["stacktrace"]
    assert "  + 1 of 3\n  Traceback" in stack
    assert "  ValueError: a\nb" in stack
    assert "    ... 4 more exceptions" in stack
    deep: Any = ValueError("x")
    for _ in range(9):
        deep = ExceptionGroup("g", [deep])
    assert "nested too deep" in TELL.describe(deep)["stacktrace"]
    assert TELL.describe(ExceptionGroup("g", [inner, inner]))["stacktrace"].count("inner") == 1


def test_recursion_is_folded() -> None:
    """A thousand equal lines tell nothing more than one."""

    def alone() -> None:
        alone()

    def ping() -> None:
        pong()

    def pong() -> None:
        ping()

    stack = ""
    for function, times in ((alone, "Previous line repeated"), (ping, "Previous 2 lines repeated")):
        try:
            function()
        except RecursionError as error:
            stack = TELL.describe(error)["stacktrace"]
        assert times in stack
        assert stack.count("\n") < 15


def test_a_deep_stack_shows_its_ends() -> None:
    """Where it began and where it failed."""
    names: dict[str, Any] = {}
    source = "".join(f"def f{n}(): f{n + 1}()\n" for n in range(90)) + "def f90(): 1 / 0\n"
    exec(compile(source, "<made>", "exec"), names)
    stack = ""
    try:
        names["f0"]()
    except ZeroDivisionError as error:
        stack = TELL.describe(error)["stacktrace"]
    assert "... 44 more frames" in stack
    assert "in f90" in stack


def test_the_fingerprint_is_that_of_the_origin() -> None:
    """Equal for equal errors, whatever their messages; another for another place or type."""

    def fail(message: str, kind: type[Exception] = ValueError) -> BaseException:
        return raised(kind(message))

    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        raise ValueError("deep")

    first = TELL.fingerprint(fail("a"))
    assert len(first) == 16
    assert first == TELL.fingerprint(fail("b")) == Tracebacks().fingerprint(fail("c"))
    assert first != TELL.fingerprint(fail("a", KeyError))
    assert first != TELL.fingerprint(chained())
    depths = set()
    for depth in (3, 30):
        try:
            recurse(depth)
        except ValueError as error:
            depths.add(TELL.fingerprint(error))
    assert len(depths) == 1


class Unspeakable(Exception):
    """Nothing about it can be shown."""

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__

    @property
    def __cause__(self) -> Any:  # type: ignore[override]  # hostile on purpose
        raise RuntimeError("cause")


def test_hostile_exceptions_are_told() -> None:
    """Whatever their classes have made of themselves."""
    told = TELL.describe(raised(Unspeakable()))
    assert told["message"] == "<unprintable message>"
    assert "cannot be told" in told["stacktrace"]
    odd: Any = raised(ValueError("x"))
    odd.__notes__ = [Unspeakable()]
    assert "<unprintable notes>" in TELL.describe(odd)["stacktrace"]
    odd.__notes__ = ["n"] * 99
    assert TELL.describe(odd)["stacktrace"].count("\nn") == 8
    strange = type("Strange", (ValueError,), {"__module__": 5})
    assert TELL.describe(strange("x"))["type"] == "Strange"
    assert TELL.describe(KeyboardInterrupt())["stacktrace"] == "KeyboardInterrupt"


def test_sources_that_cannot_be_had_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader of somebody's own may raise."""
    monkeypatch.setattr(linecache, "getline", lambda *_: 1 / 0)
    stack = Tracebacks().describe(raised(ValueError("x")))["stacktrace"]
    assert "in raised\nValueError: x" in stack


def test_memory_of_lines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code can be made without end."""
    monkeypatch.setattr("backendkit.logging.tracebacks._REMEMBERED", 2)
    tell = Tracebacks()
    names: dict[str, Any] = {}
    exec("def a(): b()\ndef b(): c()\ndef c(): 1 / 0", names)
    try:
        names["a"]()
    except ZeroDivisionError as error:
        assert "in a" in tell.describe(error)["stacktrace"]  # noqa: PT017 - the traceback is what is looked at
    assert len(tell._frames) <= 2


def test_odd_exc_info_is_none() -> None:
    """Loggers are called with all sorts of things."""
    from backendkit.logging.tracebacks import exc_info

    error = raised(ValueError("x"))
    assert exc_info(error) == (error, error.__traceback__)
    assert exc_info((ValueError, error, "no traceback")) == (error, None)
    for odd in (None, False, (), (1,), (None, None, None), True, "x"):
        assert exc_info(odd) is None
