"""Any value as one that every serializer takes: plain, bounded, without secrets. Never raises, never changes its input.

One walk does all three, because each alone would have to visit every value. What it returns is made of `str`, `int` of 64
bits, finite `float`, `bool`, None, `list` and `dict` with `str` keys, new from the root down.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any, TypeAlias, TypeGuard, cast
from uuid import UUID

from backendkit.logging.decide.secrets import Secrets
from backendkit.logging.policy import Limits, Redaction

Plain: TypeAlias = Any
"""`str | int | float | bool | None | list[Plain] | dict[str, Plain]`; recursive types cost checkers more than they find."""

_LARGEST = 2**63
_CARDS = 10**12
_LONG_KEY = 64
_MARGIN = 256
"""Characters behind the cut of a text that are searched for secrets as well, so that none is cut in two and shown."""

_AS_TEXT = (UUID, date, datetime, time, timedelta, Decimal, PurePath)
_SEQUENCES = (list, tuple, set, frozenset, deque)


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether a plain value is a dict."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether a plain value is a list."""
    return isinstance(value, list)


class Cleaner:
    """Makes values plain. Safe to use from any thread; a flat record of ten fields costs about 2 us.

    Args:
        redaction: what counts as secret; None: `Redaction()`.
        limits: how much is kept; None: `Limits()`.
    """

    __slots__ = ("limits", "secrets")

    def __init__(self, redaction: Redaction | None = None, limits: Limits | None = None) -> None:
        self.secrets = Secrets(redaction or Redaction())
        self.limits = limits or Limits()

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Plain]:
        """Return the fields of a record, plain; of too many, the first."""
        out: dict[str, Plain] = {}
        walk: _Walk | None = None
        secrets, longest = self.secrets, self.limits.string
        known, harmless = secrets.known, secrets.harmless
        for key, value in (
            fields.items() if len(fields) <= self.limits.values else self._some(fields)
        ):
            found = known.get(key) if type(key) is str else None
            if found is None:
                if type(key) is not str or len(key) > _LONG_KEY or not key.isascii():
                    walk = walk or _Walk(self)
                    walk.member(out, key, value)
                    continue
                found = secrets.key(key)
            name, secret = found
            kind: object = cast("Any", type(value))
            if kind is bool or value is None:
                out[name] = value
            elif secret:
                out[name] = secrets.mask
            elif kind is str and len(value) <= longest and value.isascii():
                out[name] = value if value in harmless else secrets.text(value)
            elif (kind is int or kind is float) and -_CARDS < value < _CARDS:
                out[name] = value  # which NaN is not, nor the infinite
            else:
                walk = walk or _Walk(self)
                out[name] = walk.value(value)
        return out

    def _some(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        most = self.limits.values
        yield from islice(fields.items(), most)
        yield "...", f"{len(fields) - most} more"

    def value(self, value: object) -> Plain:
        """Return one value, plain."""
        return _Walk(self).value(value)

    def text(self, text: str) -> str:
        """Return a text without secrets and lone surrogates, cut to the limit; says how much was cut."""
        longest = self.limits.string
        size = len(text)
        if size > longest:
            text = text[: longest + _MARGIN]
        if not text.isascii():
            text = text.encode("utf-8", "backslashreplace").decode()
        clean = self.secrets.text(text)
        if size <= longest:
            return clean
        # What was cut off may have held the end of a secret whose beginning stands in the margin.
        kept = min(
            longest, max(len(clean) - _MARGIN, 0) if size > longest + _MARGIN else len(clean)
        )
        return f"{clean[:kept]}... [{size - kept} more characters]"


class _Walk:
    """One walk over one record: how deep it is, what it is inside of, how much it may still visit."""

    __slots__ = ("_cleaner", "_inside", "_left", "_limits", "_secrets")

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner
        self._secrets = cleaner.secrets
        self._limits = cleaner.limits
        self._left = cleaner.limits.values
        self._inside: list[int] = []

    def value(self, value: object) -> Plain:
        """Return `value` plain, or words that say why not."""
        self._left -= 1
        if self._left < 0:
            return "..."
        try:
            return self._plain(value)
        except Exception:  # noqa: BLE001 - a value's own methods may raise anything, and the record must be written
            return f"<unprintable {_type_name(value)}>"

    def member(self, out: dict[str, Plain], key: object, value: object) -> None:
        """Add one member of a mapping, masked if its key is a secret's."""
        name, secret = self._key(key)
        while name in out:
            name += "'"  # `1` and `"1"` are two keys; both are kept
        out[name] = (
            self._secrets.mask if secret and not _tells_nothing(value) else self.value(value)
        )

    def _key(self, key: object) -> tuple[str, bool]:
        """Return a key's text and whether it is a secret's, which is seen in the whole of it."""
        plain = key if type(key) is str else self.value(key)
        whole = plain if isinstance(plain, str) else str(plain)
        return self._cleaner.text(whole[: 4 * _LONG_KEY]), self._secrets.is_secret(whole)

    def _plain(self, value: object) -> Plain:
        kind = type(value)
        convert = _EXACT.get(kind)
        if convert is not None:
            return convert(self, value)
        if isinstance(value, Enum):
            return self.value(value.value)
        for base, convert in _BASES:
            if isinstance(value, base):
                return convert(self, value)
        return self._object(value)

    def text(self, value: str) -> str:
        """A text of any class."""
        return self._cleaner.text(str.__str__(value))

    def integer(self, value: int) -> int | str:
        """An int of any class; beyond 64 bits, its digits."""
        value = int.__int__(value)
        if -_LARGEST <= value < _LARGEST:
            return self._secrets.number(value)
        return _digits(value)

    def real(self, value: float) -> float | None:
        """A float of any class; what JSON has no word for is null."""
        value = float.__float__(value)
        return value if math.isfinite(value) else None

    def same(self, value: object) -> object:
        """What is plain already."""
        return value

    def octets(self, value: bytes | bytearray | memoryview) -> str:
        """Bytes, as the text they are or with what is none escaped."""
        start = bytes(value[: self._limits.string + _MARGIN + 1])
        return self._cleaner.text(start.decode("utf-8", "backslashreplace"))

    def mapping(self, value: Mapping[Any, Any]) -> Plain:
        """A mapping, with its secrets masked."""
        # A subclass's own `items` may do anything; a dict's does not run code of others.
        items = cast("Any", dict).items(value) if isinstance(value, dict) else value.items()
        return self._within(value, lambda: self._members(items, len(value)))

    def _members(self, items: Iterable[tuple[object, object]], size: int) -> dict[str, Plain]:
        out: dict[str, Plain] = {}
        most = self._limits.items
        for key, value in list(islice(items, most)):
            self.member(out, key, value)
        if size > most:
            out["..."] = f"{size - most} more"
        return out

    def sequence(self, value: Any) -> Plain:
        """A sequence or set; a named tuple as the mapping it is."""
        names: Any = getattr(value, "_fields", None)
        if names and isinstance(value, tuple):
            pairs: Any = list(zip(map(str, names), cast("Any", value), strict=False))
            return self._within(cast("Any", value), lambda: self._members(pairs, len(pairs)))
        return self._within(value, lambda: self._listed(value))

    def _listed(self, value: Any) -> list[Plain]:
        most = self._limits.items
        iterate: Iterator[object] = _iterator(value)
        items: list[object] = list(islice(iterate, most))
        if len(items) == 2 and isinstance(items[0], str | bytes):
            # A pair, as headers come: `(b"cookie", b"...")`.
            name, secret = self._key(items[0])
            if secret and not _tells_nothing(items[1]):
                return [name, self._secrets.mask]
        out = self._arguments(items) or [self.value(item) for item in items]
        if len(value) > most:
            out.append(f"... {len(value) - most} more")
        return out

    def _arguments(self, items: list[object]) -> list[Plain] | None:
        """Return a command's arguments, `["mysql", "--password", "x"]`, without what follows a secret option."""
        hidden = {
            at + 1
            for at, item in enumerate(items)
            if type(item) is str and item.startswith("--") and self._secrets.is_secret(item)
        }
        if not hidden:
            return None
        return [
            self._secrets.mask if at in hidden else self.value(item)
            for at, item in enumerate(items)
        ]

    def _within(self, value: object, build: Callable[[], Plain]) -> Plain:
        """Run `build` one container deeper, unless that is a circle or too deep."""
        if id(value) in self._inside:
            return "<circular>"
        if len(self._inside) >= self._limits.depth:
            return f"<{_type_name(value)}, too deep>"
        self._inside.append(id(value))
        try:
            return build()
        finally:
            self._inside.pop()

    def _object(self, value: Any) -> Plain:
        """Return an object as the mapping that its class declares, else as its representation."""
        if is_dataclass(value) and not isinstance(value, type):
            pairs = [(f.name, getattr(value, f.name)) for f in dataclass_fields(value) if f.repr]
            return self._within(value, lambda: self._members(pairs, len(pairs)))
        if isinstance(value, BaseException):
            return self._cleaner.text(f"{_type_name(cast('Any', value))}: {value}")
        own = getattr(cast("Any", type(value)), "__structlog__", None)  # structlog's own protocol
        if own is not None:
            return self._within(value, lambda: self.value(own(value)))
        shown = str if _is_text_like(value) else repr
        return self._cleaner.text(str.__str__(shown(cast("object", value))))


def _tells_nothing(value: object) -> bool:
    """Tell whether a value is shown under a secret key as well: that there is no password is no secret."""
    return value is None or value is True or value is False


def _is_text_like(value: object) -> bool:
    """Tell whether `str` says more than `repr`: dates, ids, paths, addresses."""
    return isinstance(value, _AS_TEXT) or type(value).__module__ == "ipaddress"


def _iterator(value: Any) -> Iterator[Any]:
    """Iterate as the built-in type does, whatever a subclass has made of it."""
    for base in _SEQUENCES:
        if isinstance(value, base):
            own: Any = base
            iterator: Iterator[Any] = own.__iter__(value)
            return iterator
    return iter(value)


def _digits(value: int) -> str:
    """Return the decimal digits of a large int; beyond Python's own limit, which guards against slowness, its size."""
    return str(value) if value.bit_length() <= 4_096 else f"<int of {value.bit_length()} bits>"


def _type_name(value: object) -> str:
    # Past what a metaclass may have made of it.
    name: str = type.__dict__["__qualname__"].__get__(type(value))
    return name[:128]


_EXACT: Mapping[type, Callable[[_Walk, Any], Plain]] = {
    str: _Walk.text,
    int: _Walk.integer,
    float: _Walk.real,
    bool: _Walk.same,
    type(None): _Walk.same,
    dict: _Walk.mapping,
    list: _Walk.sequence,
}

_BASES: tuple[tuple[Any, Callable[[_Walk, Any], Plain]], ...] = (
    (str, _Walk.text),
    ((bytes, bytearray, memoryview), _Walk.octets),
    (int, _Walk.integer),
    (float, _Walk.real),
    (Mapping, _Walk.mapping),
    ((*_SEQUENCES, AbstractSet), _Walk.sequence),
)
