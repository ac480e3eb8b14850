"""An operation as the bytes that Redis reads.

`EVALSHA` with its digest is a constant prefix per script and shape; keys and arguments follow as RESP bulk
strings. Packing takes about a microsecond, a twentieth of redis-py's `Script` call. Source: the Redis
serialization protocol specification, https://redis.io/docs/latest/develop/reference/protocol-spec/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha1
from typing import Any, NamedTuple

from backendkit.core.checks import LARGEST_INT
from backendkit.core.errors import InvalidArgument
from backendkit.core.operation import Item, Operation, Script

ASKING = b"*1\r\n$6\r\nASKING\r\n"
"""The command that lets the next one into a slot that is being imported."""

SERVER_TIME_LUA = """local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""
"""What gives a script its `now`: the server's clock."""

INJECTED_TIME_LUA = """local now = tonumber(table.remove(ARGV))
"""
"""What gives a script its `now` in tests: one argument more."""


class Packer:
    """Packs operations of any script. Safe to share between threads: what it keeps is only ever added to.

    Args:
        now: for tests only: what scripts see as now, in microseconds; None takes the server's clock.
    """

    __slots__ = ("_heads", "_ints", "now")

    def __init__(self, now: Callable[[], int] | None = None) -> None:
        self.now = now
        self._heads: dict[tuple[Script, int, int], _Head] = {}
        self._ints: dict[int, bytes] = {}

    def pack(self, operation: Operation[Any]) -> bytes:
        """Return the operation as `EVALSHA`."""
        return self._head(operation).evalsha + self._body(operation)

    def pack_eval(self, operation: Operation[Any]) -> bytes:
        """Return the operation as `EVAL` with the script's whole text, for a server that does not know it yet."""
        return self._head(operation).eval + self._body(operation)

    def _head(self, operation: Operation[Any]) -> _Head:
        shape = (operation.script, len(operation.keys), len(operation.args))
        head = self._heads.get(shape)
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads = {}  # each holds a script's text, and batches of every size are shapes of their own
            head = self._heads[shape] = _make_head(*shape, injected=self.now is not None)
        return head

    def _body(self, operation: Operation[Any]) -> bytes:
        try:
            parts = [b"$%d\r\n%b\r\n" % (len(key), key) for key in operation.keys]
        except TypeError as error:
            raise InvalidArgument(
                "keys", "must be bytes", [type(key) for key in operation.keys]
            ) from error
        ints = self._ints
        for item in operation.args:
            if type(item) is int:
                parts.append(ints.get(item) or self._pack_int(item))
            else:
                parts.append(_bulk(item))
        if self.now is not None:
            parts.append(_bulk(b"%d" % self.now()))
        return b"".join(parts)

    def _pack_int(self, number: int) -> bytes:
        if not -LARGEST_INT <= number <= LARGEST_INT:
            raise InvalidArgument("args", "must be integers below 2**53 in magnitude", number)
        packed = _bulk(b"%d" % number)
        if (
            len(self._ints) < _MOST_INTS
        ):  # limits, windows and costs recur; time stamps must not pile up
            self._ints[number] = packed
        return packed


def lua_of(script: Script, *, injected: bool = False) -> str:
    """Return the text that Redis runs for `script`: its Lua, after what gives it `now` if it mentions that."""
    if not _MENTIONS_NOW.search(script.lua):
        # An injected time travels all the same, so that shapes do not depend on the text; it must not be seen.
        return ("table.remove(ARGV)\n" if injected else "") + script.lua
    return (INJECTED_TIME_LUA if injected else SERVER_TIME_LUA) + script.lua


class _Head(NamedTuple):
    evalsha: bytes
    eval: bytes


def _make_head(script: Script, keys: int, args: int, *, injected: bool) -> _Head:
    lua = lua_of(script, injected=injected).encode()
    digest = sha1(lua, usedforsecurity=False).hexdigest().encode()
    words = b"*%d\r\n" % (3 + keys + args + injected)
    count = _bulk(b"%d" % keys)
    return _Head(
        evalsha=words + _bulk(b"EVALSHA") + _bulk(digest) + count,
        eval=words + _bulk(b"EVAL") + _bulk(lua) + count,
    )


def _bulk(item: Item) -> bytes:
    if not isinstance(item, bytes):
        raise InvalidArgument("args", "must be int or bytes", type(item))
    return b"$%d\r\n%b\r\n" % (len(item), item)


_MENTIONS_NOW = re.compile(r"\bnow\b")
_MOST_INTS = 4096
_MOST_HEADS = 1024
