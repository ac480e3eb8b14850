"""Finding an object of the user's application by its name, as servers do: `module:attribute`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


class UsageError(Exception):
    """The command line asks for what is not there."""


def load(target: str) -> object:
    """Return the object that `module:attribute` names; the current directory is searched first.

    Args:
        target: dots are allowed on both sides, as in `shop.main:kit.errors`.

    Raises:
        UsageError: it is not there. What importing the module raises of itself passes through.
    """
    module, colon, path = target.partition(":")
    if not (module and colon and path):
        raise UsageError(f"{target!r} is not of the form module:attribute")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise UsageError(f"there is no module {module!r}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise UsageError(f"{target!r}: there is no {name!r}")
        found = getattr(found, name)
    return found
