"""An adapter whose framework is not installed says which extra brings it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "name"), [("fastapi", "FastAPI"), ("flask", "Flask")])
def test_a_missing_framework_is_named_with_its_extra(module: str, name: str) -> None:
    """As an ImportError with our own words."""
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from backendkit.errors import MissingExtra\n"
        f"try:\n    import backendkit.{module}\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expected = f"backendkit.{module} needs {name}: pip install 'backendkit[{module}]'\n"
    assert done.stdout == expected


def test_errors_load_no_framework_and_no_pydantic() -> None:
    """Whoever only raises pays for nothing else."""
    program = "import sys, backendkit.errors; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "pydantic",
        "fastapi",
        "starlette",
        "flask",
        "werkzeug",
        "asyncio",
        "orjson",
    }
