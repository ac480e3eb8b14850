"""A virtual environment made from a lock file, with the project's wheel in it.

Each step leaves a stamp that says what it was made from, so that a second run does nothing and needs no
network. What is installed is the built wheel, never the source tree: the tests meet what users get.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import packages

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


class Environment:
    """One virtual environment under the project's root.

    Args:
        name: its directory, like `.venv`.
        lock: the file that pins what is in it.
        interpreter: the Python to make it with.
    """

    def __init__(self, name: str, *, lock: str, interpreter: str = sys.executable) -> None:
        self.path = ROOT / name
        self.lock = ROOT / "requirements" / lock
        self.interpreter = interpreter
        self.python = self.path / "bin" / "python"

    def ensure(self) -> None:
        """Bring the environment up to date with the lock and with the source tree."""
        wanted = self._identity()
        if not self._stamped("lock", wanted):
            self._create()
            self._install_lock()
            self._stamp("lock", wanted)
        wheel = _digest(_wheel_inputs())
        if not self._stamped("wheel", wheel):
            self._install_wheel()
            self._stamp("wheel", wheel)

    def _identity(self) -> str:
        """Return what the environment depends on: the lock, the interpreter, and its own place on the disk."""
        asked = "import platform, sys; print(platform.python_version(), sys.base_prefix)"
        version = _output(self.interpreter, "-I", "-c", asked)
        if tuple(map(int, version.split(".")[:2])) < OLDEST:
            sys.exit(f"backendkit needs Python 3.11 or newer; {self.interpreter} is {version}")
        return f"{_digest([self.lock])} {version} {self.path}"

    def _create(self) -> None:
        """Make an empty environment, by whatever this machine has to make one with."""
        shutil.rmtree(self.path, ignore_errors=True)
        _say(f"creating {self.path.name} with {self.interpreter}")
        if not _can_make_venv(self.interpreter) and shutil.which("virtualenv"):
            _run("virtualenv", "--quiet", "--python", self.interpreter, str(self.path))
            return
        if not _can_make_venv(self.interpreter):
            packages.install("python3-venv")
        if not _can_make_venv(self.interpreter):
            sys.exit(f"{self.interpreter} cannot make environments; install virtualenv beside it")
        _run(self.interpreter, "-m", "venv", str(self.path))

    def _install_lock(self) -> None:
        _say(f"installing {self.lock.name}")
        self._pip("install", "--requirement", str(self.lock))

    def _install_wheel(self) -> None:
        _say("building and installing the wheel")
        target = self.path / "wheel"
        shutil.rmtree(target, ignore_errors=True)
        _run(str(self.python), "-m", "hatchling", "build", "-t", "wheel", "-d", str(target))
        built = [str(path) for path in target.glob("*.whl")]
        self._pip("install", "--no-index", "--no-deps", "--force-reinstall", *built)

    def _pip(self, *arguments: str) -> None:
        quiet = ("-qq", "--disable-pip-version-check", "--no-input")
        _run(str(self.python), "-m", "pip", *quiet, *arguments)

    def _stamped(self, step: str, made_from: str) -> bool:
        stamp = self.path / f"{step}.stamp"
        return self.python.exists() and stamp.exists() and stamp.read_text() == made_from

    def _stamp(self, step: str, made_from: str) -> None:
        (self.path / f"{step}.stamp").write_text(made_from)


def _can_make_venv(interpreter: str) -> bool:
    """Tell whether `venv` works: Debian's python3 has the module, but keeps its `ensurepip` in a package apart."""
    found = subprocess.run(
        [interpreter, "-I", "-c", "import venv, ensurepip"], capture_output=True, check=False
    )
    return found.returncode == 0


def _wheel_inputs() -> list[Path]:
    sources = [
        path
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE", *sorted(sources)]


def _digest(paths: Iterable[Path]) -> str:
    """Return one hash over the names and contents of files."""
    whole = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(ROOT)} {content}\n".encode())
    return whole.hexdigest()


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _say(what: str) -> None:
    print(f"==> {what}", file=sys.stderr, flush=True)
