"""From limits and subjects to operations: which keys, which script, which arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument
from backendkit.core.keys import KeySpace, Part, escape
from backendkit.core.operation import Operation, Reply
from backendkit.ratelimit.algorithms import Concurrency, FixedWindow
from backendkit.ratelimit.decide import RESET, giving, taking
from backendkit.ratelimit.policy import LARGEST_AMOUNT, Limit

SCHEMA = 1
"""Of the stored states."""

Subject: TypeAlias = Part | tuple[Part, ...]
"""Whom a limit counts: text, bytes, a number, or several of them, which never collide with others."""

Subjects: TypeAlias = Subject | Mapping[str, Subject]
"""One subject for all limits, or several by the names that limits say in `by`."""


class Plan:
    """A set of limits that are always asked together.

    Args:
        limits: at least one.
        name: the limiter's; limits of different limiters never share a history.
        namespace: separates applications that share a server.
        lease_us: what windows are longer by, because permits may be spent so late.

    Attributes:
        limits: as above.
        seats: whether one of them hands out seats, which need an owner.
        boxed: whether one of them has a penalty box.
    """

    __slots__ = (
        "_boxes",
        "_fences",
        "_give",
        "_shapes",
        "_suffix",
        "_take",
        "boxed",
        "limits",
        "seats",
    )

    def __init__(
        self, limits: tuple[Limit, ...], *, name: str, namespace: str, lease_us: int = 0
    ) -> None:
        self.limits = limits
        kinds = tuple(dict.fromkeys(type(limit.algorithm) for limit in limits))
        self.seats = Concurrency in kinds
        self.boxed = any(limit.penalty is not None for limit in limits)
        self._fences = [_fence(limit, name, namespace, lease_us) for limit in limits]
        self._boxes = [
            (
                place,
                KeySpace("ratelimit", version=SCHEMA, kind="box", namespace=namespace).around(
                    name, limit.name
                ),
            )
            for place, limit in enumerate(limits)
            if limit.penalty is not None
        ]
        self._shapes = [
            (
                1 + kinds.index(type(limit.algorithm)),
                limit.quota,
                _window_us(limit, lease_us),
                limit.extra,
            )
            for limit in limits
        ]
        suffix: list[int] = []
        for limit, shape in zip(limits, self._shapes, strict=True):
            suffix += shape
            if self.boxed:
                suffix += limit.penalty.rule if limit.penalty else (0, 0, 0, 0)
        self._suffix = tuple(suffix)
        self._take = taking(kinds, boxed=self.boxed)
        self._give = giving(kinds)

    @property
    def histories(self) -> frozenset[tuple[bytes, bytes]]:
        """What stands around the subject in each limit's key: where two plans share one, they count together."""
        return frozenset(self._fences)

    def keys(self, tags: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return the keys, given one escaped tag per limit: the limits', then the boxes'."""
        keys = [head + tag + tail for (head, tail), tag in zip(self._fences, tags, strict=True)]
        for place, (head, tail) in self._boxes:
            keys.append(head + tags[place] + tail)
        return tuple(keys)

    def take(
        self,
        keys: tuple[bytes, ...],
        least: int,
        most: int,
        mode: int,
        *,
        token: int = 0,
        span: int = 0,
    ) -> Operation[Reply]:
        """Return the operation that asks all limits; see `decide`."""
        return Operation(self._take, keys, (least, most, mode, token, span, *self._suffix), _raw)

    def give(
        self, keys: tuple[bytes, ...], marks: Sequence[int], units: int, token: int = 0
    ) -> Operation[Reply]:
        """Return the operation that gives units back, and forgets what `token` holds."""
        args = [token]
        for shape, mark in zip(self._shapes, marks, strict=True):
            args += (*shape, mark, units)
        return Operation(self._give, keys[: len(self.limits)], args, _raw)

    def forget(self, keys: tuple[bytes, ...]) -> Operation[Reply]:
        """Return the operation that forgets keys."""
        return Operation(RESET, keys, (), _raw)


def tag_of(subject: Subject) -> bytes:
    """Return a subject as it stands in keys.

    Raises:
        InvalidArgument: it is empty, or no text, bytes or number.
    """
    parts = subject if isinstance(subject, tuple) else (subject,)
    for part in parts:
        if not _is_part(part):
            raise InvalidArgument(
                "key", "must be text, bytes, a number, or a tuple of these", subject
            )
    if not parts or parts in (("",), (b"",)):
        raise InvalidArgument("key", "must have at least one character", subject)
    return b"/".join(map(escape, parts))


def cost_of(cost: object) -> int:
    """Return a cost.

    Raises:
        InvalidArgument: it is no whole number from 0.
    """
    return checks.whole("cost", cost, most=LARGEST_AMOUNT)


def _fence(limit: Limit, name: str, namespace: str, lease_us: int) -> tuple[bytes, bytes]:
    """Return what stands around the tag: algorithm, window and buckets are part of the key, the amount is not."""
    kind = f"{limit.algorithm.kind}.{_window_us(limit, lease_us)}"
    buckets = getattr(limit.algorithm, "buckets", None)
    if buckets is not None:
        kind += f".{buckets}"
    space = KeySpace("ratelimit", version=SCHEMA, kind=kind, namespace=namespace)
    return space.around(name, limit.name)


def _window_us(limit: Limit, lease_us: int) -> int:
    return limit.window_us + (0 if isinstance(limit.algorithm, FixedWindow) else lease_us)


def _is_part(part: object) -> bool:
    return isinstance(part, str | bytes | int)


def _raw(reply: Reply) -> Reply:
    return reply
