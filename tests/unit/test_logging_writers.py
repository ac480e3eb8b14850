"""Lines arrive whole, and whatever is wrong with the stream, the work that logs goes on."""

from __future__ import annotations

import errno
import gc
import io
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from backendkit.logging import configure_logging, get_logger
from backendkit.logging import writers as room
from backendkit.logging.queued import QueuedWriter
from backendkit.logging.writers import DirectWriter


class Gate:
    """A writer that waits until it is let go."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.lines: list[bytes] = []
        self.lost = 0

    def write(self, line: bytes) -> bool:
        """Write when the gate is open."""
        self.opened.wait()
        self.lines.append(line)
        return True

    def flush(self, timeout: float = 5.0) -> bool:
        """Do nothing."""
        return True

    def close(self, timeout: float = 5.0) -> None:
        """Do nothing."""


def said(count: int) -> bytes:
    """Render how many were dropped."""
    return b"dropped %d\n" % count


def test_streams_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, bytes, descriptors, files, and what only has a `write`."""

    class Bare:
        def __init__(self) -> None:
            self.got = b""

        def write(self, line: bytes) -> None:
            self.got += line

    class Wrapped:
        encoding = "utf-8"
        got = ""

        def write(self, line: str) -> None:
            self.got += line

    text, octets, bare, wrapped = io.StringIO(), io.BytesIO(), Bare(), Wrapped()
    path = tmp_path / "log"
    with path.open("w") as file:
        file.write("before\n")
        for stream in (text, octets, bare, wrapped, file, None):
            writer = DirectWriter(stream)
            assert writer.write("é\n".encode())
            assert writer.flush()
            assert not writer.is_terminal
            writer.close()
        assert DirectWriter(file.fileno()).write(b"by descriptor\n")
    assert text.getvalue() == wrapped.got == "é\n"
    assert octets.getvalue() == bare.got == "é\n".encode()
    assert path.read_text() == "before\né\nby descriptor\n"
    assert capsys.readouterr().out == "é\n"


def test_a_stream_that_fails_is_counted() -> None:
    """A closed pipe, a closed file, a descriptor that is none."""
    reader, writer = os.pipe()
    os.close(reader)
    closed = io.StringIO()
    closed.close()
    for stream in (writer, closed, 987):
        direct = DirectWriter(stream)
        assert not direct.write(b"x\n")
        assert direct.lost == 1
    os.close(writer)
    with configure_logging(stream=closed) as ours:
        get_logger().info("a")
        assert ours.lost == 1


def test_a_full_pipe_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some parents set pipes not to block; a line is written in parts then, and given up if nobody reads."""
    monkeypatch.setattr(room, "_PATIENCE_S", 0.0)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    direct = DirectWriter(writer)
    assert not direct.write(b"x" * 500_000)
    monkeypatch.setattr(room, "_PATIENCE_S", 30.0)
    got: list[int] = []

    def read() -> None:
        while sum(got) < 300_000:
            got.append(len(os.read(reader, 65_536)))

    os.read(reader, 1_000_000)
    thread = threading.Thread(target=read)
    thread.start()
    assert direct.write(b"y" * 300_000)
    thread.join()
    os.close(reader)
    os.close(writer)


def test_a_terminal_is_known() -> None:
    """For colours and blocks."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    assert DirectWriter(follower).is_terminal
    with configure_logging("auto", stream=follower):
        logging.getLogger("x").error("hello")
    assert b"\x1b[31merror" in os.read(leader, 4_096)
    os.close(leader)
    os.close(follower)


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    """Long lines, on a pipe that holds less than one of them."""
    reader, writer = os.pipe()
    text = "x" * 30_000
    with configure_logging(stream=writer):
        log = get_logger()

        def work(number: int) -> None:
            for _ in range(20):
                log.info("long", number=number, text=text)

        got: list[bytes] = []

        def collect() -> None:
            with os.fdopen(reader, "rb") as pipe:
                got.extend(pipe)

        collector = threading.Thread(target=collect)
        collector.start()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os.close(writer)
    collector.join()
    assert len(got) == 80
    assert all(json.loads(line)["event"] == "long" for line in got)


def test_the_queue_takes_lines_without_waiting() -> None:
    """What has no room is dropped, counted and told."""
    gate = Gate()
    queued = QueuedWriter(gate, 3, said)
    assert queued.write(b"0\n")
    while queued._queue.lines.qsize():  # the thread holds the first
        pass
    assert [queued.write(b"%d\n" % n) for n in (1, 2, 3, 4, 5)] == [True, True, True, False, False]
    assert queued.lost == 2
    assert not queued.flush(0.0)
    gate.opened.set()
    assert queued.flush()
    assert gate.lines == [b"0\n", b"dropped 2\n", b"1\n", b"2\n", b"3\n"]
    queued.close()
    assert queued.write(b"6\n")
    assert gate.lines[-1] == b"6\n"
    queued.close()
    assert queued.flush()


def test_what_waits_is_written_when_the_writer_goes() -> None:
    """At exit, or when nobody holds it any more."""
    gate = Gate()
    gate.opened.set()
    queued = QueuedWriter(gate, 10, said)
    queue = queued._queue
    queue.lines.put(b"a\n")
    queue.lines.put(threading.Event())
    queue.lines.put(None)
    del queued
    gc.collect()
    assert gate.lines == [b"a\n"]


def test_a_flush_from_the_writers_own_thread_does_not_wait_for_itself() -> None:
    """A stream may log when it is written to."""
    answers: list[bool] = []

    class Talking(Gate):
        def write(self, line: bytes) -> bool:
            answers.append(queued.flush())
            return True

    queued = QueuedWriter(Talking(), 10, said)
    queued.write(b"a\n")
    queued.close()
    assert answers == [True]


def test_the_queue_is_an_option() -> None:
    """With the count of what was dropped as a record."""
    out = io.BytesIO()
    with configure_logging(stream=out, queue=100) as ours:
        get_logger().info("a")
        assert ours.flush()
        assert b'"event":"a"' in out.getvalue()
        get_logger().info("b")
    assert out.getvalue().count(b"\n") == 2
    from backendkit.logging.configure import _says_lost
    from backendkit.logging.decide.lines import JsonLine
    from backendkit.logging.processors import Timestamps

    line = _says_lost(JsonLine(1_024), Timestamps())(3)
    assert json.loads(line)["dropped"] == 3


PROGRAM = """
import os, sys, threading
from backendkit.logging import configure_logging, get_logger
queue = int(sys.argv[1]) or None
ours = configure_logging(stream=1, queue=queue)
log = get_logger("p")
log.info("parent", n=0)
hold = threading.Thread(target=lambda: [log.info("busy", text="b" * 9000) for _ in range(50)])
hold.start()
children = []
for child in range(4):
    pid = os.fork()
    if not pid:
        for n in range(40):
            log.info("child", child=child, n=n, text="x" * (n * 400))
        ours.close()
        os._exit(0)
    children.append(pid)
hold.join()
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
log.info("end")
"""


@pytest.mark.parametrize("queue", [0, 10_000])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_processes_do_not_mix_their_lines(kind: str, queue: int, tmp_path: Path) -> None:
    """Workers share their parent's output, and are forked while its threads log; each line stays whole, none is lost."""
    import subprocess

    command = [sys.executable, "-c", PROGRAM, str(queue)]
    if kind == "pipe":
        written = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout
    else:
        with (tmp_path / "log").open("ab") as file:
            subprocess.run(command, check=True, stdout=file, timeout=60)
        written = (tmp_path / "log").read_bytes()
    records: list[dict[str, Any]] = [json.loads(line) for line in written.splitlines()]
    for child in range(4):
        assert [r["n"] for r in records if r.get("child") == child] == list(range(40))
    assert sum(record["event"] == "busy" for record in records) == 50
    assert [r["event"] for r in records].count("parent") == 1
    assert records[-1]["event"] == "end"


def test_a_line_that_the_disk_takes_in_parts_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may take less than it is given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:7]))
    with (tmp_path / "log").open("wb") as file:
        assert DirectWriter(file).write(b"0123456789" * 5 + b"\n")
    assert (tmp_path / "log").read_bytes() == b"0123456789" * 5 + b"\n"


def test_a_pipe_that_cannot_be_locked_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of macOS and the BSDs: they lock files only; without this every line was lost there."""

    def refuse(_: int) -> None:
        raise OSError(errno.EBADF, "no lock on this")

    monkeypatch.setattr(room, "_hold", refuse)
    end, pipe = os.pipe()
    try:
        writer = DirectWriter(pipe)
        assert [writer.write(b"a\n"), writer.write(b"b\n")] == [True, True]
        assert os.read(end, 100) == b"a\nb\n"
        assert not writer.lost
    finally:
        os.close(end)
        os.close(pipe)


_LATE = """
import atexit, logging
atexit.register(lambda: [logging.getLogger("late").warning("late") for _ in range(20)])
from backendkit.logging import configure_logging, get_logger
configure_logging(queue=10)
get_logger().info("early")
"""


def test_what_is_logged_after_the_queue_has_ended_is_written() -> None:
    """Exit hooks that were registered before run after; from 3.12 no thread can begin there."""
    done = subprocess.run([sys.executable, "-c", _LATE], capture_output=True, check=True)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == [
        "early",
        *["late"] * 20,
    ]
    assert done.stderr == b""


def test_a_system_without_room_for_a_thread_gets_its_lines_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whoever logs."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    gate = Gate()
    gate.opened.set()
    queued = QueuedWriter(gate, 3, said)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert [queued.write(b"%d\n" % n) for n in range(5)] == [True] * 5
    assert gate.lines == [b"%d\n" % n for n in range(5)]
