"""Whatever is logged becomes one valid line, bounded and escaped."""

from __future__ import annotations

import io
import json
import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.logging import Limits, configure_logging, get_logger
from backendkit.logging.decide import lines
from backendkit.logging.decide.lines import ConsoleLine, JsonLine, dump_json, fastest_dump
from backendkit.logging.decide.values import Cleaner


class Hostile:
    """Everything about it raises."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return 7


class MoreHostile(Hostile):
    """Not even what it is can be asked."""

    @property  # type: ignore[misc]  # hostile on purpose
    def __class__(self) -> Any:
        raise RuntimeError("class")


class HostileDict(dict[Any, Any]):
    """A dict whose own methods raise."""

    def items(self) -> Any:
        """Fail."""
        raise RuntimeError("items")

    __iter__ = keys = values = __getitem__ = items  # type: ignore[assignment]  # hostile on purpose


class HostileText(str):
    """A text that shows something else than it is."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __len__ = isascii = __str__  # type: ignore[assignment]


class HostileMapping(Mapping[str, int]):
    """A mapping that fails when it is looked into."""

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        return 3


class HostileError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("str")


class Structlogged:
    """Says itself how it is logged."""

    def __structlog__(self) -> Any:
        return {"password": "x", "name": "y"}


class Colour(Enum):
    """An enumeration."""

    RED = "red"


class Code(IntEnum):
    """An enumeration that is a number."""

    OK = 200


def circle() -> list[Any]:
    """A list that holds itself."""
    inner: list[Any] = [1]
    inner.append(inner)
    return inner


CASES: list[tuple[object, object]] = [
    (float("nan"), None),
    (float("inf"), None),
    (1.5, 1.5),
    (2**63, "9223372036854775808"),
    (-(2**63), -(2**63)),
    (10**5000, "<int of 16610 bits>"),
    (True, True),
    (Code.OK, 200),
    (Colour.RED, "red"),
    (b"a\xff", "a\\xff"),
    (bytearray(b"abc"), "abc"),
    (memoryview(b"abc"), "abc"),
    ("\ud800", "\\ud800"),
    (circle(), [1, "<circular>"]),
    ((1, {2}), [1, [2]]),
    (deque([1, 2]), [1, 2]),
    ({1: 2}.keys(), [1]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({1: "a", "1": "b", None: "c", (1, 2): "d"}, {"1": "a", "1'": "b", "None": "c", "[1, 2]": "d"}),
    ({"\ud800": 1, "é": 2}, {"\\ud800": 1, "é": 2}),
    (Hostile(), "<unprintable Hostile>"),
    (MoreHostile(), "<unprintable MoreHostile>"),
    (HostileDict(a=1), {"a": 1}),
    (HostileText("abc"), "abc"),
    (HostileMapping(), "<unprintable HostileMapping>"),
    (HostileError("x"), "<unprintable HostileError>"),
    (ValueError("x"), "ValueError: x"),
    (Structlogged(), {"password": "[redacted]", "name": "y"}),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    (Decimal("1.10"), "1.10"),
    (Path("/tmp/x"), "/tmp/x"),
    (ip_address("10.0.0.1"), "10.0.0.1"),
    (int, "<class 'int'>"),
    (4111111111111111, "[redacted]"),
    (["a", True], ["a", True]),
    (["token", None], ["token", None]),
]


@pytest.mark.parametrize(("value", "plain"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_a_value_becomes_plain(value: object, plain: object) -> None:
    """Each serializer takes it, and a reader recognises it."""
    clean = Cleaner()
    assert clean.value(value) == plain
    assert clean.fields({"a": value})["a"] == plain
    assert json.loads(dump_json({"a": plain})) == orjson.loads(fastest_dump()({"a": plain}))


def test_a_generator_is_not_consumed() -> None:
    """What the application was about to iterate over is still there."""
    numbers = iter(range(3))
    assert "range_iterator" in Cleaner().value(numbers)
    assert list(numbers) == [0, 1, 2]


def test_what_is_too_much_is_counted() -> None:
    """A record names what it leaves out."""
    clean = Cleaner(limits=Limits(depth=2, items=3, values=16, string=64))
    assert clean.value([[[1]]]) == [["<list, too deep>"]]
    assert clean.value(list(range(5))) == [0, 1, 2, "... 2 more"]
    assert clean.value({n: n for n in range(5)}) == {"0": 0, "1": 1, "2": 2, "...": "2 more"}
    assert clean.value("a" * 100) == "a" * 64 + "... [36 more characters]"
    many = clean.value([[n, [n], n] for n in range(3)] * 3)
    assert json.dumps(many).count('"..."') == 0
    wide = Cleaner(limits=Limits(values=16)).value([[n] for n in range(50)])
    assert "..." in json.dumps(wide)
    assert len(Cleaner(limits=Limits(values=16)).fields({f"a{n}": n for n in range(99)})) == 17


def test_bombs_are_cheap() -> None:
    """A value that holds itself many times over would take for ever to walk."""
    bomb: Any = ["x"]
    for _ in range(60):
        bomb = [bomb] * 50
    assert len(json.dumps(Cleaner().value(bomb))) < 100_000


def _made(make: Any) -> Any:
    return make()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.sampled_from([Hostile, HostileDict, HostileError, circle, object, lambda: HostileText("x")]).map(_made),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(st.characters(codec=None)) | st.integers() | st.none() | st.binary(), inner, max_size=5)
    | st.tuples(inner, inner),
    max_leaves=20,
)  # fmt: skip
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@given(values, st.text(st.characters(codec=None)), st.text(st.characters(codec=None), max_size=5), st.sampled_from(["json", "console"]))  # fmt: skip
def test_one_valid_line_whatever_is_logged(value: Any, event: str, key: str, kind: Any) -> None:
    """Logging never raises, writes exactly one line for each call, and no control character in it."""
    stream = io.BytesIO()
    with configure_logging(kind, stream=stream, limits=Limits(line=4096)):
        log: Any = get_logger()
        log.info(event, value=value, **{key: value})
        log.warning(value)
        log.error("with %s", value)
        log.info("with %d %s", value)  # noqa: PLE1206 - as somebody may
    written = stream.getvalue()
    assert written.endswith(b"\n")
    found = written.decode().split("\n")[:-1]
    assert len(found) == 4
    for line in found:
        assert len(line.encode()) <= 4096
        assert not RAW.search(line)
        if kind == "json":
            assert list(json.loads(line, parse_constant=pytest.fail))[:3] == [
                "timestamp",
                "level",
                "event",
            ]


@pytest.mark.parametrize("dump", [dump_json, fastest_dump()])
@pytest.mark.parametrize("size", [2_000, 20_000])
def test_a_line_that_is_too_long_is_told_shorter(dump: Any, size: int) -> None:
    """Collectors cut at a length of their own, and what they cut is no JSON any more."""
    render = JsonLine(2_048, dump)
    record: dict[str, Any] = {"timestamp": "t", "level": "info", "event": "e" * size}
    record |= {f"field{n}": ["v" * size, {"a": n}] for n in range(6)}
    record["exception"] = {"type": "T", "stacktrace": "first" + "s" * size + "last"}
    line = render(record)
    told = json.loads(line)
    assert len(line) <= 2_048
    assert told["cut_bytes"] == len(dump(record)) > 2_048
    if size == 2_000:
        assert told["exception"]["stacktrace"].startswith("first")
        assert told["exception"]["stacktrace"].endswith("last")


def test_a_record_of_too_many_fields_keeps_its_head() -> None:
    """When nothing else fits, a record still says when and what."""
    record = {"timestamp": "t", "level": "info", "event": "e"} | {
        f"k{n}" * 20: n for n in range(99)
    }
    told = json.loads(JsonLine(1_024)(record))
    assert told.keys() == {"timestamp", "level", "event", "cut_bytes"}


def test_without_orjson_the_standard_library_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra makes lines faster; without it they say the same."""
    monkeypatch.setitem(__import__("sys").modules, "orjson", None)
    assert fastest_dump() is dump_json
    assert dump_json({"a": "\x7fé\u2028\n"}) == b'{"a":"\\u007f\\u00e9\\u2028\\n"}'


def test_orjson_lines_hide_no_control_character() -> None:
    """What orjson writes C1, line separators and direction marks as they are, is escaped."""
    line = fastest_dump()({"a": "\x7f\x9b\u2028\u202e\u2066\ufeffé"})
    assert line.decode() == '{"a":"\\u007f\\u009b\\u2028\\u202e\\u2066\\ufeffé"}'
    assert fastest_dump()({"a": "\x7f"}) == b'{"a":"\\u007f"}'


def test_the_console_line() -> None:
    """For eyes; what would move the cursor is written out."""
    record = {"timestamp": "t", "level": "info", "event": "a\nb \x1b[31m", "x": 1, "y": "a b", "z": "c", "k k": [1, "\u202e"]}  # fmt: skip
    assert ConsoleLine(1_024)(record).decode() == (
        't info     a\\nb \\x1b[31m x=1 y="a b" z=c "k k"=[1, "\\u202e"]\n'
    )
    coloured = ConsoleLine(1_024, colours=True)({**record, "level": "error"}).decode()
    assert "\x1b[31merror   \x1b[0m" in coloured
    assert "\x1b[36mx\x1b[0m=1" in coloured
    cut = ConsoleLine(1_024)({"event": "é" * 2_000})
    assert len(cut) <= 1_024
    assert cut.decode().endswith("bytes]\n")


def test_the_console_tells_tracebacks_in_blocks() -> None:
    """Each line of a block begins with a mark that no record begins with."""
    exception = {"type": "T", "stacktrace": "one\n  two \x1b[0m"}
    told = ConsoleLine(1_024, blocks=True)({"event": "e", "exception": exception}).decode()
    assert told.split("\n")[1:] == ["  | one", "  |   two \\x1b[0m", ""]
    assert ConsoleLine(1_024)({"event": "e", "exception": exception}).count(b"\n") == 1
    assert ConsoleLine(1_024, blocks=True)({"event": "e"}).count(b"\n") == 1


def test_shortened_keeps_what_is_short() -> None:
    """Only what is long is cut."""
    assert lines._shortened(5, 10) == 5
    assert lines._shortened([1], 10) == [1]
    assert lines._shortened(list(range(99)), 10) == "<99 items, cut>"
    assert math.isclose(1.5, lines._shortened(1.5, 1))
