"""One session, as the record of its user keeps it; and the record's names.

A user's record is one key: `e:<digest>` is the epoch, `s:<session id>` a session. So a change of all that belongs
to a user is one operation on one Cluster slot, and the index of sessions is the record itself. The key bears eight
characters of the subject's digest, which every session id begins with: whoever knows a session id knows its key.
Users who share those characters share a record, and nothing else: epochs and sessions carry the longer digest.

In Redis a session is text, in memory a tuple; both hold the same:

    digest generation rotated absolute epoch created offset secret bind
    device / agent / address / grants, a line each

Times are microseconds of the store's clock. Should that step back behind `rotated`, the last write, `offset` makes
up for it from then on: a grace time neither stands still nor begins anew.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from backendkit.core.keys import KeySpace
from backendkit.tokens.encoding import encode

TAG_LENGTH = 8
"""Characters of the subject's digest that place the record: 48 bits."""

DIGEST_LENGTH = 22
"""Characters that tell users apart: 132 bits."""

NONE = b"-"
"""No binding."""


class Session(NamedTuple):
    """What is kept of a session; see the module's docstring."""

    digest: bytes
    generation: int
    rotated: int
    absolute: int
    epoch: int
    created: int
    offset: int
    secret: bytes
    bind: bytes
    device: bytes
    agent: bytes
    address: bytes
    grants: bytes

    def clock(self, now: int) -> tuple[Session, int]:
        """Return the session and the time as it sees it, never before its last write."""
        seen = now + self.offset
        if seen >= self.rotated:
            return self, seen
        return self._replace(offset=self.rotated - now), self.rotated


PARSE_LUA = r"""
local function parse(text)
  if not text then return nil end
  local d, g, r, a, e, c, o, s, b, dev, agent, address, grants = string.match(text,
    '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$')
  if not d then return nil end
  local one = {d = d, g = tonumber(g), r = tonumber(r), a = tonumber(a), e = tonumber(e), c = tonumber(c),
    o = tonumber(o), s = s, b = b, dev = dev, agent = agent, address = address, grants = grants}
  one.now = now + one.o
  if one.now < one.r then one.o = one.r - now one.now = one.r one.stepped = true end
  return one
end
local function text(one)
  return table.concat({table.concat({one.d, string.format('%.0f', one.g), string.format('%.0f', one.r),
    string.format('%.0f', one.a), string.format('%.0f', one.e), string.format('%.0f', one.c),
    string.format('%.0f', one.o), one.s, one.b}, ' '), one.dev, one.agent, one.address, one.grants}, '\n')
end
"""
"""The same in Lua: reads a session and the time as it sees it, and writes it."""


def digest_of(subject: str) -> bytes:
    """Return what stands for a subject in the store."""
    return encode(hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest())[:DIGEST_LENGTH]


def new_session_id(subject: str, random: bytes) -> str:
    """Return the tag of the subject and 12 random bytes, 24 characters in all."""
    return (digest_of(subject)[:TAG_LENGTH] + encode(random)).decode()


def is_session_id(text: str) -> bool:
    """Tell whether a text may be a session id."""
    return _SESSION_ID.fullmatch(text) is not None


def key_of(space: KeySpace, name: bytes | str) -> bytes:
    """Return the key of the record that a digest or a session id begins with."""
    return space.key(name[:TAG_LENGTH])


def line(text: str, most: int) -> bytes:
    """Return at most `most` bytes of text, whole characters, without control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text[:most])
    return shown.encode("utf-8", "replace")[:most].decode("utf-8", "ignore").encode()


_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{24}")
