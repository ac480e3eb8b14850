"""What an import costs and needs, seen from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import backendkit
from tests.structure.floors import FEATURES
from tests.structure.tree import SRC

INSTALLED = Path(backendkit.__file__).parents[1]

HEAVY = {
    "redis", "pydantic", "argon2", "jwt", "structlog", "pybreaker", "tenacity", "cachetools",
    "fastapi", "starlette", "flask", "werkzeug",
}  # fmt: skip

FRAMEWORKS = {"fastapi", "starlette", "flask", "werkzeug"}

EXTRAS = FRAMEWORKS | {
    "redis",
    "hiredis",
    "orjson",
    "opentelemetry",
    "prometheus_client",
    "httpx",
    "requests",
}

FRAMEWORK_FREE = ("core", "stores", *FEATURES, "settings", "kit", "http")

WITHOUT_EXTRAS = f"""
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(EXTRAS)}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after a statement.

    Without `site`: what stands in a `.pth` file, as coverage does for its own sake, would be loaded beforehand
    and hide what the statement loads.
    """
    program = f"import sys\nsys.path.append({str(INSTALLED)!r})\n{statement}\nprint(' '.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


def test_the_front_door_loads_next_to_nothing() -> None:
    """A bare import must not cost a start-up that an application notices."""
    loaded = loaded_by("import backendkit") - loaded_by("")
    assert len(loaded) <= 60, sorted(loaded)
    assert not {name.split(".")[0] for name in loaded} & HEAVY


@pytest.mark.parametrize("room", FRAMEWORK_FREE)
def test_a_room_needs_no_extra_and_no_framework(room: str) -> None:
    """Extras are detected, never required: each room imports where none of them is installed."""
    exists = (SRC / room).is_dir() or (SRC / f"{room}.py").is_file()
    statement = f"{WITHOUT_EXTRAS}import backendkit.{room}" if exists else "import backendkit"
    loaded = {name.split(".")[0] for name in loaded_by(statement)}
    assert "backendkit" in loaded
    assert not loaded & EXTRAS


def test_the_measure_sees_what_is_loaded() -> None:
    """A measure that sees nothing would let everything pass."""
    loaded = loaded_by("import json.decoder") - loaded_by("")
    assert json.decoder.__name__ in loaded


def test_the_absence_of_an_extra_is_real() -> None:
    """Otherwise a room that imports one would pass the test above."""
    with pytest.raises(subprocess.CalledProcessError):
        loaded_by(f"{WITHOUT_EXTRAS}import redis")


def test_the_suite_runs_the_installed_package() -> None:
    """The wheel is what users get; a source tree on the path would hide what it lacks."""
    assert SRC.parent not in INSTALLED.parents
    assert SRC.parent != INSTALLED
    assert (INSTALLED / "backendkit" / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    """`hasattr` and star imports of others rely on it."""
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = backendkit.no_such_name
