"""Making the first tier's records of what a look at the second has found: what is done for each of a hundred keys."""

from __future__ import annotations

import struct
from math import inf
from typing import Any, NamedTuple

from backendkit.cache import core as cores
from backendkit.cache.core import UNGIVEN, Call, Core
from backendkit.cache.decide.entry import FIXED, HEAD, UNTAGGED, meta_of, parse
from backendkit.cache.decide.tier import HIT, Answer
from backendkit.cache.decide.timing import LONGEST_EARLY
from backendkit.cache.record import TIMES, Record
from backendkit.cache.scope import Scope
from backendkit.core.clock import SECOND_US
from backendkit.core.operation import Item


class Wanting(NamedTuple):
    """The tags of an entry whose versions this process does not know: it is thawed when they have been asked for."""

    tags: tuple[str, ...]


class Thaw:
    """The entries of one look on their way into the first tier.

    Args:
        core: whose.
        call: whose policy holds for all of them.
        scope: the versions of now, with the tags that entries most likely have.
        began: seconds on the monotonic clock before the look was sent.

    Attributes:
        now: the server's time when it looked.
    """

    __slots__ = (
        "_began", "_call", "_core", "_decode", "_early", "_expected", "_latest", "_namespace", "_place", "_plain", "_scope",
        "_scopes", "_until", "now",
    )  # fmt: skip

    def __init__(self, core: Core, call: Call, scope: Scope, began: float) -> None:
        assert core.wire is not None  # noqa: S101 - only what has a second tier looks there
        policy = call.policy
        self._core = core
        self._call = call
        self._decode = core.wire.codec.decode
        self._began = began
        self._latest = inf if policy.l1_ttl is None else began + policy.l1_ttl_us / SECOND_US
        self._early = policy.beta * LONGEST_EARLY
        self._namespace = scope.namespace.token
        self._plain = core.wire.plain if policy.sharing == "safe" else None
        # Entries with the same tags of the same versions share what is known of them; filling looks at it again.
        tags = _spelt(scope) if scope.tags else UNTAGGED
        self._scopes: dict[bytes, Scope | None] = {tags: scope}
        self._expect(tags, scope)
        self.now = 0

    def __call__(self, key: str, raw: Item) -> tuple[Record, Any] | Wanting | None:
        """Return a record, and its value for one caller; None where there is nothing fresh that can be read."""
        if not isinstance(raw, bytes):
            return None
        try:
            at, fresh, stale, namespace, cost = FIXED.unpack_from(raw)
        except struct.error:
            return None
        now = self.now
        if namespace != self._namespace or now >= fresh:
            return None
        if not raw.startswith(self._expected, FIXED.size):
            return self._other(key, raw)
        body = raw[self._place :]
        try:
            value = self._decode(body)
        except Exception:  # noqa: BLE001 - a user's codec may raise anything; the long way tells of it
            value = None
        if type(value) not in _MUTABLE:
            return self._thawed(key, raw)
        began = self._began
        ends = min(began + (fresh - now) / SECOND_US, self._latest)
        # Where the second tier has it for longer, it is asked: nothing to load early.
        seconds = cost / SECOND_US if ends < self._latest else 0.0
        # Field by field: through two `__init__` it takes twice as long.
        record = _new(Record)
        record.value, record.size, record.thaw = body, len(body), self._decode
        record.visited = record.main = False
        record.deadline = ends - seconds * self._early
        late = began + (stale - now) / SECOND_US
        record.packed = TIMES.pack(ends, late, self._until, seconds, at)
        record.scope = self._scope
        record.era = None
        return record, value

    def _expect(self, tags: bytes, scope: Scope | None) -> None:
        """Take the short way with entries of these tags from now on, if there is one."""
        self._scope = scope
        if scope is None or self._plain is None:
            self._expected = _NEVER
        else:
            self._expected = tags + self._plain
            self._place = FIXED.size + len(self._expected)
            self._until = self._core.counts_until(self._began, scope)

    def _other(self, key: str, raw: bytes) -> tuple[Record, Any] | Wanting | None:
        """Read an entry of other tags than the last, or one that is no plain one."""
        entry = parse(raw)
        if entry is None:
            return None
        tags = raw[FIXED.size : HEAD.size + len(entry.meta)]
        if tags not in self._scopes:
            names = tuple([name for name, _ in entry.tags])
            known = self._core.local.known(names)
            if known is None:
                return Wanting(names)
            self._scopes[tags] = known if cores.agrees(entry, known) else None
        scope = self._scopes[tags]
        if scope is None:
            return None
        self._expect(tags, scope)
        if raw.startswith(self._expected, FIXED.size):
            return self(key, raw)
        return self._thawed(key, raw)

    def _thawed(self, key: str, raw: bytes) -> tuple[Record, Any] | None:
        """Read what is sealed or compressed, may be shared, or cannot be read."""
        scope = self._scope
        if scope is None:
            return None
        answer = Answer(HIT, self.now, parse(raw), 0)
        record = self._core.thawed(self._call._replace(key=key), answer, self._began, scope)
        value = UNGIVEN if record is None else self._core.given(key, record)
        return None if record is None or value is UNGIVEN else (record, value)


def _spelt(scope: Scope) -> bytes:
    """Return the tags of a scope as entries spell them; a scope serves many calls."""
    if scope.spelt is None:
        tags = tuple((name, version.token) for name, version in scope.tags.items())
        scope.spelt = meta_of(b"", 0, tags)[FIXED.size - HEAD.size :]
    return scope.spelt


_new = Record.__new__

_NEVER = b"\xff" * 64
"""What no entry has where its tags stand."""

_MUTABLE = frozenset({dict, list})
"""What most codecs return, and nobody may share."""
