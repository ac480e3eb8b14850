"""Values as the first tier keeps them: nothing that one caller does to what it got may reach another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain, islice
from typing import Any, cast
from uuid import UUID

from backendkit.cache.errors import NotEncodable


def is_immutable(value: object) -> bool:
    """Whether nobody can change `value`: numbers, texts, dates and their like, and tuples and frozensets of such."""
    kind = type(value)
    if kind in _IMMUTABLE or isinstance(value, Enum):
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, cast("tuple[object, ...]", value)))
    return False


def size_of(value: object, depth: int = 4) -> int:
    """Return about how many bytes `value` takes, by its first items."""
    size = sys.getsizeof(value, 64)
    if depth == 0:
        return size
    if isinstance(value, Mapping):
        held = cast("Mapping[object, object]", value)
        return size + _items_size(chain.from_iterable(held.items()), 2 * len(held), depth)
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("Collection[object]", value)
        return size + _items_size(items, len(items), depth)
    own = getattr(value, "__dict__", None)
    return size if own is None else size + size_of(own, depth - 1)


def frozen(value: Any, *, shared: bool) -> tuple[Any, Callable[[Any], Any] | None]:
    """Return what to keep of a value without a codec, and how to make a caller's own of it; None: it may be given away."""
    if shared or is_immutable(value):
        return value, None
    return deepcopy(value), deepcopy


def uncopied(value: object) -> NotEncodable:
    """Return the error for a value that cannot be copied."""
    return NotEncodable(
        f"a {type(value).__qualname__} cannot be copied, so that callers would share it\n"
        "To fix it: cache plain data, or pass policy=CachePolicy(sharing='shared')."
    )


def _items_size(items: Iterable[object], number: int, depth: int) -> int:
    looked = list(islice(items, _LOOKED))
    size = sum(size_of(item, depth - 1) for item in looked)
    return size * number // len(looked) if looked else 0


_LOOKED = 32
_IMMUTABLE = frozenset({
    type(None), bool, int, float, complex, str, bytes, date, datetime, time, timedelta, Decimal, Fraction, UUID, range,
    type, type(len), type(is_immutable),
})  # fmt: skip
