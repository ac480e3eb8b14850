"""One server, and every way to break it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.ground import ports
from tests.ground.loops import in_fork, in_threads
from tests.ground.process import Process
from tests.ground.resp import ReplyError, Wire
from tests.ground.servers import Server, ServerDied
from tests.ground.single import Single
from tests.ground.waiting import eventually


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server of the test's own."""
    server = Server()
    yield server.start()
    server.close()


def test_it_runs_commands(server: Server) -> None:
    """All kinds of replies arrive."""
    with server.wire() as wire:
        assert wire.command("SET", "key", b"\x00\xff\r\n") == b"OK"
        assert wire.command("GET", "key") == b"\x00\xff\r\n"
        assert wire.command("GET", "none") is None
        assert wire.command("INCRBY", "n", 5) == 5
        assert wire.command("EVAL", "return {1, {'a', {}}}", 0) == [1, [b"a", []]]
        with pytest.raises(ReplyError, match="WRONGTYPE") as caught:
            wire.command("LPUSH", "key", 1)
    assert caught.value.code == "WRONGTYPE"


def test_it_shares_the_tests_cores_and_not_their_ctrl_c(server: Server) -> None:
    """Cores are shared out by session, where the kernel does that; signals of a terminal go to a process group."""
    assert os.getsid(server.pid) == os.getsid(0)
    assert os.getpgid(server.pid) == server.pid


def test_nothing_is_persisted(server: Server) -> None:
    """A restart on the same port loses data and scripts."""
    port, pid = server.port, server.pid
    server.command("SET", "key", 1)
    digest = server.text("SCRIPT", "LOAD", "return 1")
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    assert server.command("GET", "key") is None
    with pytest.raises(ReplyError, match="NOSCRIPT"):
        server.command("EVALSHA", digest, 0)


def test_a_paused_server_accepts_and_does_not_answer(server: Server) -> None:
    """And executes on resuming what was sent meanwhile."""
    with server.paused(), server.wire(timeout=0.1) as wire, pytest.raises(TimeoutError):
        wire.command("INCR", "n")
    assert eventually(lambda: server.command("GET", "n"), "the late command ran") == b"1"


def test_a_killed_server_refuses(server: Server) -> None:
    """At once, and connections are cut; killing twice does no harm."""
    with server.wire() as wire:
        server.kill()
        assert not server.alive
        with pytest.raises(ConnectionError):
            wire.command("PING")
    with pytest.raises(ConnectionRefusedError):
        server.command("PING")
    server.kill()
    assert server.start().command("PING") == b"PONG"


def test_a_paused_server_can_be_killed_and_terminated(server: Server) -> None:
    """Being stopped keeps nobody alive."""
    server.pause()
    server.kill()
    server.start().pause()
    server.terminate()
    assert not server.alive
    assert "User requested shutdown" in server.log_tail()


def test_the_debug_command_is_there(server: Server) -> None:
    """Tests can make Redis itself sleep, or set its clock's pace."""
    assert server.command("DEBUG", "SLEEP", "0") == b"OK"


def test_two_cannot_run_at_once(server: Server) -> None:
    """Starting a running server is a mistake, as is configuring it too late."""
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()
    with pytest.raises(RuntimeError, match="started already"):
        server.configure("hz 20")


def test_a_server_that_does_not_start_says_why() -> None:
    """The message holds its own words."""
    server = Server("no-such-setting 1")
    try:
        with pytest.raises(ServerDied, match="Bad directive"):
            server.start()
    finally:
        server.close()
    assert not server.directory.exists()


def test_a_lost_race_for_a_port_is_run_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is the other's server taken for ours, nor does the start fail."""
    free = ports.PORTS.take
    given = iter([server.port])
    monkeypatch.setattr(ports.PORTS, "take", lambda: next(given, None) or free())
    second = Server()
    try:
        assert second.port == server.port
        second.start()
        assert second.port != server.port
        assert second.info("server")["process_id"] == str(second.pid)
    finally:
        second.close()


def test_a_server_outlives_the_thread_that_started_it() -> None:
    """The kernel watches the starting thread, so that must be one that stays."""
    server = Server()
    starter = Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert server.command("PING") == b"PONG"
    finally:
        server.close()


def test_many_start_at_once() -> None:
    """From many threads, each its own."""
    several = in_threads(6, lambda _: Server().start())
    try:
        assert len({server.port for server in several}) == 6
        assert len({server.info("server")["run_id"] for server in several}) == 6
    finally:
        for server in several:
            server.close()


def test_a_forked_child_leaves_its_parents_server_alone(server: Server) -> None:
    """It cannot signal it, and closing its copy does nothing; it can have one of its own."""

    def child() -> bytes:
        with pytest.raises(RuntimeError, match="belongs to process"):
            server.kill()
        server.close()
        with Single() as own:
            reply = own.server.command("PING")
        assert isinstance(reply, bytes)
        return reply

    assert in_fork(child) == b"PONG"
    assert server.directory.exists()
    assert server.command("PING") == b"PONG"


def test_a_pid_in_another_directory_is_not_signalled(tmp_path: Path) -> None:
    """Whatever happened to our process, that one is not it."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    process = Process("sleep", "60", directory=ours, log=ours / "log")
    try:
        process._directory = other
        with pytest.raises(RuntimeError, match="is not ours"):
            process.kill()
        assert process.exit_code is None
    finally:
        process._directory = ours
        process.kill()
    assert process.exit_code == -signal.SIGKILL


def test_closing_leaves_nothing(server: Server) -> None:
    """No process, no directory, no port; also when the server is paused."""
    pid = server.pid
    server.pause()
    server.close()
    server.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not server.directory.exists()
    with pytest.raises(ConnectionRefusedError):
        Wire(server.address)


def test_a_missing_program_is_an_error_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a skip."""
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(RuntimeError, match="apt-get install redis-server"):
        Single().start()


def test_servers_of_ones_own_differ(own_redis: Callable[..., Single]) -> None:
    """The factory takes lines of redis.conf."""
    first, second = own_redis(), own_redis("maxmemory 5mb")
    assert first.url != second.url
    assert second.server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]
