"""Password hashing, token pairs, rate limiting, caching, circuit breakers, errors and logging for web backends.

Importing this module loads nothing but itself: each public name brings in its own room on first use, so
that an application pays only for the features it touches. A test starts a fresh interpreter and counts.
"""

# `typing.TYPE_CHECKING` would load `typing` and a dozen modules behind it; checkers know this spelling too.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backendkit.kit import Kit as Kit
    from backendkit.settings import Settings as Settings
    from backendkit.stores import connect as connect

__version__ = "0.1.0"

# Public name -> the module that defines it. A name listed here is also imported under TYPE_CHECKING
# above (`from backendkit.kit import Kit as Kit`), so that checkers and editors see its type.
_HOMES: "Mapping[str, str]" = {
    "Kit": "backendkit.kit",
    "Settings": "backendkit.settings",
    "connect": "backendkit.stores",
}

__all__ = ["Kit", "Settings", "__version__", "connect"]


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562) and keep it."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415  # a bare import must not load it

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names that are not imported yet as well."""
    return sorted({*globals(), *_HOMES})
