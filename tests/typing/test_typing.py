"""The installed package is typed for those who install it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["right.py", "wrong.py"])
def test_a_users_checker_agrees(name: str, tmp_path: Path) -> None:
    """Away from the checkout, so that the checker sees the wheel and its `py.typed`, as a user's does."""
    shutil.copy(HERE / name, tmp_path / name)
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", name]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_wrong_use_is_refused(tmp_path: Path) -> None:
    """Were the package untyped, everything would be accepted."""
    text = (HERE / "wrong.py").read_text(encoding="utf-8").replace("# type: ignore", "#")
    (tmp_path / "wrong.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.stdout.count(": error:") == 3, done.stdout
