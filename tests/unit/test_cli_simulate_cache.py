"""`backendkit simulate-cache`: the hits are those of the real first tier, and of the caches beside it."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendkit.cli.main import main
from backendkit.cli.replay import UNBOUNDED_BYTES, Lru, Ranked, next_looks, packed_hits, replay
from backendkit.cli.trace import Look, Trace

KEYS = ["a", "b", "a", "c", "a", "d", "b", "a", "e", "f", "a", "b", "a"]
LOG = '192.0.2.1 - - [20/Nov/2026:10:{minute:02}:00 +0000] "{method} {path} HTTP/1.1" {status} {size}\n'

traces = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3)), max_size=14).map(
    lambda pairs: [
        Look(key, {"a": 0, "b": 900, "c": 90, "d": 9, "e": 500}[key]) for key, _ in pairs
    ]
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Thirteen look-ups of six keys."""
    path = tmp_path / "trace.txt"
    path.write_text("".join(f"{key}\n" for key in KEYS) + "\n")
    return path


WANTED = (
    "13 look-ups of 6 keys\n"
    "\n"
    "   entries  of keys  backendkit         LRU         LFU     optimum\n"
    "         1   16.7 %      0.00 %      0.00 %      0.00 %     38.46 %\n"
    "         3   50.0 %     46.15 %     38.46 %     38.46 %     53.85 %\n"
    "         6  100.0 %     53.85 %     53.85 %     53.85 %     53.85 %\n"
)


def test_hits_by_size(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each size, a column for each cache."""
    assert main(["simulate-cache", str(trace), "--items", "50%, 1,100%"]) == 0
    assert capsys.readouterr().out == WANTED


def test_every_way_in(
    trace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Gzip, standard input, CSV with and without a head, and a log out of order tell the same."""
    packed = tmp_path / "trace.gz"
    packed.write_bytes(gzip.compress(trace.read_bytes()))
    csv = tmp_path / "trace.csv"
    csv.write_text("key,size\n" + "".join(f"{key},7\n" for key in KEYS))
    bare = tmp_path / "bare.csv"
    bare.write_text("".join(f"{key}, 7\n" for key in KEYS))
    log = tmp_path / "access.log"
    lines = [
        LOG.format(minute=minute, method="GET", path=f"/p?{key}", status=200, size=5)
        for minute, key in enumerate(KEYS)
    ]
    lines.insert(3, LOG.format(minute=3, method="POST", path="/p?x", status=200, size=5))
    lines.insert(5, LOG.format(minute=3, method="GET", path="/p?y", status=404, size="-"))
    log.write_text("".join(lines[::-1]))
    for path in (packed, csv, bare, log):
        assert main(["simulate-cache", str(path), "--items", "1,3,6"]) == 0
        assert capsys.readouterr().out == WANTED
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(trace.read_bytes())))
    assert main(["simulate-cache", "-", "--items", "1,3,6"]) == 0
    assert capsys.readouterr().out == WANTED


def test_what_cannot_be_read_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And bytes bind as well as numbers."""
    path = tmp_path / "trace.csv"
    path.write_text("a,100\nb\nb,100\na,100\nc,x\nb,100\n")
    assert main(["simulate-cache", str(path), "--items", "10", "--bytes", "1K"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 look-ups of 2 keys, at most 1024 bytes\n2 malformed lines left out\n")
    assert main(["simulate-cache", str(path), "--format", "log"]) == 2


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot(trace: Path, suffix: str) -> None:
    """A picture of the hits by size, also where there is one size only."""
    path = trace.with_suffix(suffix)
    for items in ("1,3,6", "3"):
        assert main(["simulate-cache", str(trace), "--items", items, "--plot", str(path)]) == 0
        assert path.read_bytes()[:4] in (b"<svg", b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere"], "cannot read /nowhere"),
        (["TRACE", "--items", "x"], "--items must be"),
        (["TRACE", "--items", "0"], "--items must be"),
        (["TRACE", "--items", "inf%"], "--items must be"),
        (["EMPTY"], "tells of no look-up"),
    ],
)
def test_what_cannot_be_done_is_said(
    trace: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Exit status 2 and one line, no traceback."""
    empty = trace.with_name("empty")
    empty.write_text("\n")
    names = {"TRACE": str(trace), "EMPTY": str(empty)}
    assert main(["simulate-cache", *(names.get(each, each) for each in arguments)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("given_", ["1", "many"])
def test_bytes_are_read_with_units(
    trace: Path, capsys: pytest.CaptureFixture[str], given_: str
) -> None:
    """Too few, or no number: said by the parser."""
    with pytest.raises(SystemExit):
        main(["simulate-cache", str(trace), "--bytes", given_])
    assert "--bytes" in capsys.readouterr().err


def best(trace: list[Look], items: int, most_bytes: int) -> int:
    """Return the most hits that any cache could have, by trying everything."""
    states: dict[frozenset[Look], int] = {frozenset(): 0}
    for look in trace:
        following: dict[frozenset[Look], int] = {}
        for held, hits in states.items():
            found = hits + (look in held)
            everything = sorted(held | {look})
            for count in range(len(everything) + 1):
                for kept in combinations(everything, count):
                    if count <= items and sum(each.size + 250 for each in kept) <= most_bytes:
                        state = frozenset(kept)
                        following[state] = max(following.get(state, 0), found)
        states = following
    return max(states.values())


@settings(max_examples=60, deadline=None)
@given(traces, st.integers(1, 3))
def test_the_optimum_is_the_optimum(trace: list[Look], items: int) -> None:
    """No choice of what to keep hits more, and one hits as much."""
    after = next_looks(trace)
    cache = Ranked(items, UNBOUNDED_BYTES, lambda at, _: -after[at])
    hits = sum(cache.hit(look.key, look.size, at) for at, look in enumerate(trace))
    assert hits == best(trace, items, UNBOUNDED_BYTES)


@settings(max_examples=60, deadline=None)
@given(traces, st.sampled_from([1_100, 1_500, 2_500]))
def test_no_cache_exceeds_the_bound_in_bytes(trace: list[Look], most_bytes: int) -> None:
    """What the table calls the optimum is never less than what is possible."""
    assert packed_hits(trace, next_looks(trace), most_bytes) >= best(trace, 99, most_bytes)


@given(traces, st.integers(1, 3), st.sampled_from([1_100, 2_500]))
def test_lru_and_lfu_are_what_their_names_say(
    trace: list[Look], items: int, most_bytes: int
) -> None:
    """Beside lists that are searched and sorted."""
    lru, lfu = Lru(items, most_bytes), Ranked(items, most_bytes, lambda _, looks: looks)
    plain_lru: list[Look] = []
    plain_lfu: dict[Look, tuple[int, int]] = {}
    for at, look in enumerate(trace):
        assert lru.hit(look.key, look.size, at) == (look in plain_lru)
        assert lfu.hit(look.key, look.size, at) == (look in plain_lfu)
        if look.size + 250 > most_bytes:
            continue
        plain_lru = [each for each in plain_lru if each != look] + [look]
        while len(plain_lru) > items or sum(each.size + 250 for each in plain_lru) > most_bytes:
            plain_lru.pop(0)
        plain_lfu[look] = (plain_lfu.get(look, (0, 0))[0] + 1, at)
        while len(plain_lfu) > items or sum(each.size + 250 for each in plain_lfu) > most_bytes:
            del plain_lfu[min(plain_lfu, key=lambda each: plain_lfu[each])]


def test_progress_is_told_to_the_end() -> None:
    """In all passes together."""
    told: list[tuple[int, int]] = []
    replay(
        [Look(str(n)) for n in range(2_000)], [5, 10], UNBOUNDED_BYTES, lambda *at: told.append(at)
    )
    assert told == sorted(told)
    assert {of for _, of in told} == {16_000}
    assert told[-1][0] > 15_000


def test_a_long_trace_does_not_fill_the_heap() -> None:
    """What no longer counts is thrown away."""
    cache = Ranked(3, UNBOUNDED_BYTES, lambda _, looks: looks)
    for at in range(1_000):
        cache.hit("same", 1, at)
    assert len(cache._heap) < 100


def test_lines_are_read_as_what_the_first_is(tmp_path: Path) -> None:
    """Keys may hold commas and spaces."""
    path = tmp_path / "t"
    path.write_text("a key, with a comma\nother\n")
    assert [look.key for look in Trace(str(path)).looks()] == ["a key, with a comma", "other"]


def test_who_reads_no_further_is_no_error(trace: Path) -> None:
    """Like `head`: no traceback, and the status that shells know."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [
        sys.executable,
        "-m",
        "backendkit.cli",
        "simulate-cache",
        str(trace),
        "--items",
        "1,2,3",
    ]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_cache_in_memory_is_nobody_elses(capsys: pytest.CaptureFixture[str]) -> None:
    """`cache` says so, instead of looking into an empty one of its own."""
    assert main(["cache", "stats", "--url", "memory://"]) == 2
    assert "must name a Redis" in capsys.readouterr().err
