"""The pipeline's promises about the machine it runs on, kept with made-up `apt-get`s on a PATH of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.structure.tree import ROOT

APT = """#!/bin/sh
echo "$@ policy=$(cat {policy} 2>/dev/null | tr '\\n' ' ')" >> {log}
case "$*" in *install*) {on_install} ;; esac
"""


class Machine:
    """A PATH without redis-server, an apt-get that writes down how it was called, and a policy file."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.policy = root / "policy-rc.d"
        self.log = root / "log"
        self.server = self.bin / "redis-server"
        for tool in ("sh", "cat", "tr", "touch", "chmod"):
            self.bin.joinpath(tool).symlink_to(f"/bin/{tool}")

    def apt_get(self, on_install: str) -> None:
        """Provide an apt-get that does `on_install` when it installs."""
        text = APT.format(policy=self.policy, log=self.log, on_install=on_install)
        self.program("apt-get", text)

    def program(self, name: str, text: str) -> None:
        """Put a program on this machine's PATH."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def ensure_redis(self, port: int = 1) -> subprocess.CompletedProcess[str]:
        """Run the step that `make test` runs."""
        script = ROOT / ".ci" / "redis_server.py"
        command = [sys.executable, str(script), "--policy", str(self.policy), "--port", str(port)]
        environment = {"PATH": str(self.bin)}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without redis-server."""
    return Machine(tmp_path)


def test_redis_is_installed_with_daemons_forbidden(machine: Machine) -> None:
    """Debian would start a server on 6379 with the package; the policy stands while apt-get runs, then goes."""
    machine.apt_get(f"touch {machine.server}; chmod 755 {machine.server}")
    run = machine.ensure_redis()
    assert run.returncode == 0, run.stderr
    update, install = machine.log.read_text().splitlines()
    assert "update" in update
    assert "install --yes --no-install-recommends redis-server" in install
    assert "exit 101" in install
    assert not machine.policy.exists()


def test_a_policy_that_was_there_is_put_back(machine: Machine) -> None:
    """It belongs to the machine's owner, and may be a link into `/etc/alternatives`."""
    owned = machine.policy.with_name("owned")
    owned.write_text("#!/bin/sh\nexit 0\n")
    machine.policy.symlink_to(owned)
    machine.apt_get(f"touch {machine.server}; chmod 755 {machine.server}")
    assert machine.ensure_redis().returncode == 0
    assert "exit 101" in machine.log.read_text()
    assert machine.policy.readlink() == owned
    assert owned.read_text().endswith("exit 0\n")


def test_a_failed_install_leaves_no_policy_behind(machine: Machine) -> None:
    """A policy left standing would silently keep every later service from starting."""
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    machine.apt_get("exit 100")
    run = machine.ensure_redis()
    assert run.returncode == 1
    assert "exited with 100" in run.stderr
    assert "Traceback" not in run.stderr
    assert machine.policy.read_text().endswith("exit 104\n")


def test_a_policy_left_by_a_killed_run_is_not_taken_for_the_owners(machine: Machine) -> None:
    """Otherwise the second run would put the forbidding policy back for good."""
    machine.policy.write_text("#!/bin/sh\nexit 101\n")
    machine.apt_get(f"touch {machine.server}; chmod 755 {machine.server}")
    assert machine.ensure_redis().returncode == 0
    assert not machine.policy.exists()


def test_a_present_redis_is_left_alone(machine: Machine) -> None:
    """The second run needs neither network nor apt-get."""
    machine.program("redis-server", "#!/bin/sh\n")
    machine.program("openssl", "#!/bin/sh\n")
    assert machine.ensure_redis().returncode == 0
    assert not machine.log.exists()


def test_a_server_that_listened_before_is_none_of_our_business(machine: Machine) -> None:
    """Installing succeeds beside somebody else's server."""
    machine.apt_get(f"touch {machine.server}; chmod 755 {machine.server}")
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        assert machine.ensure_redis(port=theirs.getsockname()[1]).returncode == 0


def test_a_daemon_started_in_spite_of_the_policy_is_reported(machine: Machine) -> None:
    """Nobody should find a stray server a week later."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        listen = f"{sys.executable} {machine.bin}/daemon.py {port} >/dev/null 2>&1 </dev/null &"
        machine.program(
            "daemon.py",
            "import socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
            "s.settimeout(20)\ns.accept()\n",
        )
    wait = (
        f'{sys.executable} -c "import socket,time\nfor _ in range(100):\n    time.sleep(0.05)\n    '
        f"s=open('/proc/net/tcp').read()\n    if ':%04X 00000000:0000 0A' % {port} in s: break\""
    )
    machine.apt_get(f"{listen} {wait}; touch {machine.server}; chmod 755 {machine.server}")
    run = machine.ensure_redis(port=port)
    assert run.returncode == 1
    assert "started a daemon" in run.stderr


def test_without_apt_get_the_advice_is_plain(machine: Machine) -> None:
    """Other systems name the same package differently; the message says what is missing."""
    run = machine.ensure_redis()
    assert run.returncode == 1
    assert "apt-get install redis-server" in run.stderr
    assert "Traceback" not in run.stderr


def test_no_committed_file_names_an_index_or_a_host_of_ours() -> None:
    """Where packages come from is the machine's business, not the repository's."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        lines = lock.read_text().splitlines()
        assert lines
        assert [
            line
            for line in lines
            if "://" in line or line.startswith(("-i", "--index", "--extra", "--find"))
        ] == []
