"""The page of settings, from their declarations: `python -m tests.docs.settings --write` brings it up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Secret
from pydantic.fields import FieldInfo

from backendkit.settings import PREFIX, Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

`Kit.from_env()` reads these from the environment, from `.env`, and from files of a secrets directory. A wrong or unknown one is named when
the application starts.

| variable | meaning, unit, range | default |
|---|---|---|
"""


def page() -> str:
    """Return the page as it should be."""
    return HEAD + "".join(f"{row}\n" for row in rows(Settings, PREFIX))


def rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Walk the rows of a group and of the groups in it, in the order of their declaration."""
    for name, field in model.model_fields.items():
        variable, kind = prefix + name.upper(), field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from rows(kind, f"{variable}__")
        else:
            yield f"| `{variable}` | {field.description} | {default(field)} |"


def default(field: FieldInfo) -> str:
    """Return a default as one would write it into the environment."""
    value = field.default
    if isinstance(value, Secret):
        value = value.get_secret_value()
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
