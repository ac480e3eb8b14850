"""`backendkit errors`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import backendkit
from backendkit.cli import main

MODULE = """
from backendkit.errors import Conflict, Errors

class Sold(Conflict):
    code = "TEST_CLI_{name}"
    message = "Sölde"

class Kit:
    errors = Errors(Sold)

errors = Kit.errors
kit = Kit()
def make():
    return kit
nothing = 5
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A user's module in the current directory; its name and code are this test's own."""
    name = "shop_" + "".join(c if c.isalnum() else "_" for c in request.node.name).lower()
    code = MODULE.replace("{name}", str(abs(hash(name))))
    code = code.replace("class Sold", f"class Sold_{abs(hash(name))}").replace(
        "Errors(Sold)", "Errors()"
    )
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize("path", ["errors", "kit", "kit.errors", "make", "Kit"])
def test_an_application_is_found_by_name(
    shop: str, path: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An Errors, a kit, or what makes one."""
    assert main(["errors", "--app", f"{shop}:{path}"]) == 0
    listed = json.loads(capsysbinary.readouterr().out)["errors"]
    assert "Sölde" in [entry["message"] for entry in listed]


def test_without_an_application_the_librarys_own_are_listed(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """To see what is there already."""
    assert main(["errors"]) == 0
    assert "NOT_FOUND" in [e["code"] for e in json.loads(capsysbinary.readouterr().out)["errors"]]


def test_formats_and_titles(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Markdown for a wiki, HTML for a browser."""
    assert main(["errors", "--format", "markdown", "--title", "Shop"]) == 0
    assert capsysbinary.readouterr().out.startswith(b"# Shop\n")
    assert main(["errors", "--format", "html", "--title", "Shop"]) == 0
    assert b"<h1>Shop</h1>" in capsysbinary.readouterr().out


def test_a_file_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In UTF-8 whatever the terminal speaks."""
    target = tmp_path / "errors.html"
    assert main(["errors", "--format", "html", "--output", str(target)]) == 0
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == ""
    assert main(["errors", "--output", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("shop", "not of the form"),
        (":errors", "not of the form"),
        ("shop:", "not of the form"),
        ("no_such_module:errors", "no module 'no_such_module'"),
        ("no_such.module:errors", "no module 'no_such.module'"),
        ("json.no_such:errors", "no module"),
        ("json:no_such", "there is no 'no_such'"),
        ("json:decoder", "neither an Errors"),
        ("json:loads.no_such", "there is no 'no_such'"),
    ],
)
def test_what_is_not_there_is_told(
    target: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with the status of a wrong command line."""
    assert main(["errors", "--app", target]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_module_that_misses_another_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a missing dependency would look like a misspelt name."""
    (tmp_path / "shop_without.py").write_text("import no_such_dependency\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        main(["errors", "--app", "shop_without:errors"])


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "List every error" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """For a bug report."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"{backendkit.__version__}\n"


def test_it_runs_as_a_module() -> None:
    """Where the script is not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "backendkit.cli", "errors"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["errors"]


def test_importing_it_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Documentation tools import every module."""
    import_module("backendkit.cli.__main__")
    assert capsys.readouterr() == ("", "")
