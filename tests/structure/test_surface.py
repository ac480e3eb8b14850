"""The public surface changes only where a review sees it."""

from __future__ import annotations

import difflib
from pathlib import Path

import backendkit
from tests.structure import surface
from tests.structure.tree import SRC


def test_the_surface_is_the_one_written_down() -> None:
    """Every new, changed or lost public name shows as a line of a diff."""
    difference = diff(surface.saved(), surface.surface(SRC))
    assert not difference, (
        f"\n{difference}\nif that is meant: python -m tests.structure.surface --write"
    )


def test_the_surface_names_what_users_reach(tmp_path: Path) -> None:
    """Private names stay out; signatures, methods, attributes, constants and names handed on are in."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("from .a import f\nfrom os import path\n")
    (tmp_path / "core" / "a.py").write_text(
        "A: int = 1\n_B = 2\ndef f(x: int, *, y: str = 'a') -> None: ...\ndef _g(): ...\n"
        "class C(Exception):\n    z: int\n    def __init__(self, n: int): ...\n    def m(self): ...\n    def _p(self): ...\n"
    )
    (tmp_path / "__init__.py").write_text("_HOMES: X = {'Kit': 'backendkit.kit'}\n")
    (tmp_path / "core" / "_b.py").write_text("def hidden(): ...\n")
    assert surface.surface(tmp_path)["__init__"] == "backendkit.Kit from backendkit.kit\n"
    assert surface.surface(tmp_path)["core"].splitlines() == [
        "backendkit.core.f from .a",
        "backendkit.core.a.A: int",
        "def backendkit.core.a.f(x: int, *, y: str='a') -> None",
        "class backendkit.core.a.C(Exception)",
        "backendkit.core.a.C.z: int",
        "def backendkit.core.a.C.__init__(self, n: int)",
        "def backendkit.core.a.C.m(self)",
    ]


def test_a_lost_name_shows_in_the_difference() -> None:
    """The message must tell what changed, not only that something did."""
    assert "-b" in diff({"core": "a\nb\n"}, {"core": "a\n"})


def test_every_lazy_name_of_the_front_door_exists() -> None:
    """A name in the table that its home does not define would fail only when a user asks for it."""
    missing = [
        name
        for name in dir(backendkit)
        if getattr(backendkit, name, None) is None and name[0] != "_"
    ]
    assert missing == []


def diff(before: dict[str, str], after: dict[str, str]) -> str:
    """Return a unified diff over all rooms."""
    lines: list[str] = []
    for room in sorted(before.keys() | after.keys()):
        was, now = before.get(room, "").splitlines(), after.get(room, "").splitlines()
        lines += difflib.unified_diff(
            was, now, f"{room} (written down)", f"{room} (now)", lineterm="", n=0
        )
    return "\n".join(lines)
