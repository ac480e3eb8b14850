"""`backendkit simulate-limit`: the counts are those of the real algorithm, whatever the log looks like."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest

from backendkit.cli.access_log import parse_line
from backendkit.cli.main import main

LINE = '{ip} - {user} [20/Nov/2026:10:{minute:02}:{second:02} +0000] "GET {path} HTTP/1.1" {status} 12{rest}\n'


def line(
    minute: int = 0,
    second: int = 0,
    *,
    ip: str = "192.0.2.1",
    user: str = "-",
    path: str = "/",
    status: int = 200,
    rest: str = "",
) -> str:
    """One line of a log."""
    return LINE.format(
        ip=ip, minute=minute, second=second, user=user, path=path, status=status, rest=rest
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three a second from one address, out of order; one from another; some rubbish."""
    lines = [line(0, s) for s in range(10) for _ in range(3)]
    lines += [line(1, 5, rest=' "-" "curl/8"'), line(0, 3, ip="192.0.2.2")]
    lines = [*lines[::-1], "rubbish\n", "\n", '1.2.3.4 - - [yesterday] "GET / HTTP/1.1" 200 1\n']
    path = tmp_path / "access.log"
    path.write_text("".join(lines))
    return path


def test_who_when_and_how_much(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten of thirty pass; the window slides: a minute later the address is free again."""
    assert main(["simulate-limit", str(log), "--limit", "10/minute"]) == 0
    assert capsys.readouterr().out == (
        "10/minute by ip: 20 of 32 requests denied (62.50 %)\n"
        "from 2026-11-20 10:00:00 to 2026-11-20 10:01:05 UTC\n"
        "1 of 2 would have been limited\n"
        "2 malformed lines left out\n"
        "\n"
        "ip         requests    denied  first denied at (UTC)\n"
        "192.0.2.1        31        20  2026-11-20 10:00:03\n"
    )


@pytest.mark.parametrize(
    ("algorithm", "denied"),
    [("sliding-log", 20), ("sliding-buckets", 21), ("fixed-window", 20), ("gcra", 19)],
)
def test_the_algorithm_is_the_real_one(
    log: Path, capsys: pytest.CaptureFixture[str], algorithm: str, denied: int
) -> None:
    """Each decides in its own way: buckets look a tenth further back, GCRA refills on the way."""
    main(["simulate-limit", str(log), "--limit", "10/minute", "--algorithm", algorithm])
    assert capsys.readouterr().out.startswith(f"10/minute by ip: {denied} of 32 ")


def test_gzip_and_standard_input(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same report, however the log comes."""
    main(["simulate-limit", str(log), "--limit", "10/minute"])
    wanted = capsys.readouterr().out
    packed = log.with_suffix(".gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    main(["simulate-limit", str(packed), "--limit", "10/minute"])
    assert capsys.readouterr().out == wanted
    for data in (log.read_bytes(), packed.read_bytes()):
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        main(["simulate-limit", "-", "--limit", "10/minute"])
        assert capsys.readouterr().out == wanted


@pytest.mark.parametrize(
    ("key", "limited"),
    [("ip", "1 of 2"), ("all", "1 of 1"), ("path", "1 of 1"), ("user", "1 of 1")],
)
def test_other_keys(log: Path, capsys: pytest.CaptureFixture[str], key: str, limited: str) -> None:
    """A limit may count by more than addresses."""
    main(["simulate-limit", str(log), "--limit", "10/minute;9/second", "--key", key])
    assert f"{limited} would have been limited" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_plot(log: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    """A picture of the requests over time."""
    path = log.with_suffix(suffix)
    assert main(["simulate-limit", str(log), "--limit", "10/minute", "--plot", str(path)]) == 0
    assert path.read_bytes()[:4] in (b"<svg", b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere/access.log", "--limit", "1/s"], "cannot read /nowhere/access.log"),
        (["LOG", "--limit", "many"], "rate must be like"),
        (["LOG", "--limit", "1/s", "--plot", "x.gif"], "must end in .svg or .png"),
    ],
)
def test_what_cannot_be_done_is_said(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Exit status 2 and one line, no traceback."""
    given = [str(log) if argument == "LOG" else argument for argument in arguments]
    assert main(["simulate-limit", *given]) == 2
    assert said in capsys.readouterr().err


def test_lines_of_both_formats() -> None:
    """Escaped quotes, IPv6, users with spaces, requests that are none."""
    common = parse_line('::1 - ada l [20/Nov/2026:10:00:00 +0100] "POST /a?b=c HTTP/2" 201 -')
    assert common is not None
    assert common[1:6] == ("::1", "ada l", "POST", "/a", "201")
    assert (common.query, common.size) == ("b=c", 0)
    odd = parse_line('1.2.3.4 - - [20/Nov/2026:10:00:00 +0000] "\\x16\\x03" 400 0 "-" "-"')
    assert odd is not None
    assert (odd.method, odd.status) == ("-", "400")
    assert parse_line('1.2.3.4 - - [20/Nov/2026:10:00:00 +0000] "GET /" 200') is None
