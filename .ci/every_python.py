"""Run the whole suite on every supported Python, each in an environment of its own.

A Python that cannot be found is a failure: a suite that skips one has not shown that it works there.

usage: python3 .ci/every_python.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from environment import ROOT, Environment

VERSIONS = ("3.11", "3.12", "3.13")


def find(version: str) -> str | None:
    """Return a Python of that minor version that runs: from PATH, else from pyenv."""
    return next((found for found in _candidates(version) if _runs(found, version)), None)


def main() -> None:
    """Test on each version, say which failed, and fail if any did."""
    interpreters = {version: find(version) for version in VERSIONS}
    missing = [version for version, found in interpreters.items() if found is None]
    if missing:
        sys.exit(
            f"no Python {', '.join(missing)} on PATH or under pyenv; pyenv install {' '.join(missing)}"
        )
    failed = [
        version for version, found in interpreters.items() if found and not _passes(version, found)
    ]
    if failed:
        sys.exit(f"failed on Python {', '.join(failed)}")


def _candidates(version: str) -> Iterator[str]:
    on_path = shutil.which(f"python{version}")
    if on_path:
        yield on_path
    if shutil.which("pyenv"):
        root = subprocess.run(
            ["pyenv", "root"], check=True, capture_output=True, text=True
        ).stdout.strip()
        yield from map(str, sorted(Path(root).glob(f"versions/{version}.*/bin/python")))


def _runs(interpreter: str, version: str) -> bool:
    """Tell whether it starts and is that version: pyenv leaves shims on PATH for Pythons that are switched off."""
    asked = [interpreter, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(asked, check=False, capture_output=True, text=True)
    return answer.returncode == 0 and answer.stdout.strip() == version


def _passes(version: str, interpreter: str) -> bool:
    print(f"==> Python {version}: {interpreter}", flush=True)
    environment = Environment(f".venv-{version}", lock="dev.txt", interpreter=interpreter)
    environment.ensure()
    suite = ["bash", ".ci/suite", str(environment.path)]
    return subprocess.run(suite, check=False, cwd=ROOT, stdin=subprocess.DEVNULL).returncode == 0


if __name__ == "__main__":
    main()
