"""The decisions as scripts: take, give back, forget; any number of limits in one, each with its own algorithm.

`take` asks every limit before it writes anything, so that a denied request consumes nothing on any of them, and
its reply carries all that headers need. What it does:

    least, most     admits as many units as there is room for on all limits, `most` at most; denies if fewer than
                    `least`. A plain hit has both equal.
    mode            LOOK writes nothing; TAKE records; HOLD records tentative units that are due after `span`;
                    NOTE records nothing but a denial, in penalty boxes.
    token           whose tentative units do not count here and are forgotten: their owner's, who settles them.

The reply: whether it is admitted, how many units, then FIELDS numbers per limit: the units that count; the least
time until `least` would fit (0: now, -1: never), until nothing counts, until more is left; the receipt; marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

from backendkit.core.operation import DELETE, KEEP, Change, Item, Script, State, Write
from backendkit.ratelimit import box as penalty
from backendkit.ratelimit.algorithms import Rules
from backendkit.ratelimit.algorithms.kept import (
    PRELUDE_LUA,
    Kept,
    fall,
    live,
    weigh,
)
from backendkit.ratelimit.box import BOX_LUA

LOOK, TAKE, HOLD, NOTE = 0, 1, 2, 3
"""Modes of `take`."""

HEAD = 5
"""Arguments of `take` before those of its limits: least, most, mode, token, span."""
PLAIN, BOXED = 4, 8
"""Arguments per limit: kind, capacity, window, extra; with boxes also after, within, first, longest."""

FIELDS = 6
"""Numbers per limit in a reply."""
OWED, BLOCKED = 1, 2
"""Marks of a denying limit: it would fit but for tentative units; its penalty box is closed."""

TAKE_LUA = r"""
local least, most, mode = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local token, span = tonumber(ARGV[4]), tonumber(ARGV[5])
local limits, seen, room, barred, boxes = (#ARGV - 5) / WIDTH, {}, most, false, 0
for i = 1, limits do
  local at = 6 + (i - 1) * WIDTH
  local kind, cap = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local s = LOAD[kind](KEYS[i], cap, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), token)
  s.kind, s.capped, s.receipt = kind, cap, 0
  seen[i] = s
  room = math.min(room, cap - s.used - s.held)
  if WIDTH == 8 and ARGV[at + 4] ~= '0' then
    boxes = boxes + 1
    s.box = box_load(KEYS[limits + boxes])
    barred = barred or s.box.ends > s.box.t
  end
end
local allowed = room >= least and not barred
local reply = {0, 0}
if allowed then reply[1], reply[2] = 1, room end
for i, s in ipairs(seen) do
  local blocked, denies = s.box and s.box.ends > s.box.t, s.capped - s.used - s.held < least
  if mode == 0 then
  elseif not allowed then
    if s.stepped then redis.call('SETRANGE', s.key, 7, struct.pack('>i7', s.offset)) end
    if s.box and denies and not blocked then
      local at = 6 + (i - 1) * WIDTH
      box_note(s.box, tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), tonumber(ARGV[at + 7]))
      blocked = s.box.ends > s.box.t
    end
  elseif room == 0 or mode == 3 then
  elseif mode == 2 then
    add_hold(s, s.t + span, token, room)
    SAVE[s.kind](s, 0)
  else
    s.receipt = SAVE[s.kind](s, room)
  end
  local wait, total, retry, mark = WAIT[s.kind], s.used + s.held, 0, 0
  if not allowed and denies then
    if least > s.capped then retry = -1 else retry = fall(s, wait, s.capped - least) end
    if s.capped - s.used >= least then mark = 1 end
  end
  if blocked then
    if retry >= 0 then retry = math.max(retry, s.box.ends - s.box.t) end
    mark = 2
  end
  local reset, more = 0, 0
  if total > 0 then reset, more = fall(s, wait, 0), fall(s, wait, math.min(total, s.capped) - 1) end
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = total, retry, reset, more
  reply[n + 5], reply[n + 6] = s.receipt, mark
end
return reply
"""

GIVE_LUA = r"""
local token, reply = tonumber(ARGV[1]), {}
for i, key in ipairs(KEYS) do
  local at = 2 + (i - 1) * 6
  local kind, cap = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local s = LOAD[kind](key, cap, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), token)
  local receipt, units = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local given = units > 0 and GIVE[kind](s, receipt, units)
  reply[i] = given and units or 0
  if not given and not s.moved then
  elseif s.used == 0 and s.tail == '' then
    redis.call('DEL', key)
  else
    REST[kind](s)
  end
end
return reply
"""

RESET_LUA = """
return {redis.call('DEL', unpack(KEYS))}
"""


@cache
def taking(kinds: tuple[type[Rules], ...], *, boxed: bool = False) -> Script:
    """Return the script that takes from limits of these algorithms, which its arguments name by their places here."""
    width = BOXED if boxed else PLAIN
    text = _library(kinds, "load", "wait", "save") + (BOX_LUA if boxed else "")
    lua = text + TAKE_LUA.replace("WIDTH", str(width))
    return Script(f"ratelimit.take.{_names(kinds)}", lua=lua, fold=_Take(kinds, width), weigh=weigh)


@cache
def giving(kinds: tuple[type[Rules], ...]) -> Script:
    """Return the script that gives units back, and forgets a token's tentative ones."""
    lua = _library(kinds, "load", "give", "rest") + GIVE_LUA
    return Script(f"ratelimit.give.{_names(kinds)}", lua=lua, fold=_Give(kinds), weigh=weigh)


def _names(kinds: tuple[type[Rules], ...]) -> str:
    return "+".join(kind.kind for kind in kinds)


def _library(kinds: tuple[type[Rules], ...], *verbs: str) -> str:
    """Return the algorithms' functions, and tables in which scripts find them by place."""
    tables = [
        f"local {verb.upper()} = {{{', '.join(f'{kind.kind}_{verb}' for kind in kinds)}}}\n"
        for verb in verbs
    ]
    return "".join([PRELUDE_LUA, *(kind.lua for kind in kinds), *tables])


def key_time(kept: Kept, now: int) -> tuple[int, int]:
    """Return key time and the offset that gives it; see `algorithms.kept`."""
    t = now + kept.offset
    if t < kept.last:
        return kept.last, kept.last - now
    return t, kept.offset


_Pair: TypeAlias = tuple[Sequence[Write], list[Item]]
"""What a fold returns."""


class _Seen:
    """One limit as a script has found it, and what becomes of it."""

    __slots__ = (
        "box",
        "cap",
        "extra",
        "held",
        "kept",
        "offset",
        "receipt",
        "rules",
        "t",
        "used",
        "window",
        "write",
    )

    def __init__(
        self,
        rules: type[Rules],
        kept: Kept | None,
        now: int,
        token: int,
        shape: Sequence[int],
    ) -> None:
        self.cap, self.window, self.extra = shape
        self.rules = rules
        self.kept = kept or Kept()
        self.t, self.offset = key_time(self.kept, now)
        self.used = rules.count(self.kept, self.t, self.window, self.extra)
        self.held = live(self.kept.held, self.t, token)
        self.box: _Box | None = None
        self.receipt = 0
        self.write: Write = KEEP

    @property
    def total(self) -> int:
        """The units that count, tentative ones with them."""
        return self.used + sum(self.held[2::3])

    def fall(self, target: int) -> int:
        """Return the least time until no more than `target` count."""

        def wait(over: int) -> int:
            return self.rules.wait(self.kept, self.t, self.window, self.extra, over)

        return fall(self.t, self.held, self.used, target, wait)

    def save(self, units: int, token: int) -> None:
        """Record `units`, and who holds what."""
        kept = self.kept
        self.receipt = self.rules.take(kept, self.t, self.window, self.extra, units, token=token)
        kept.last, kept.offset, kept.held = self.t, self.offset, self.held
        self.used += units
        self.write = kept, self.rules.life(kept, self.window, self.extra)

    def save_step(self) -> None:
        """Record that the clock has stepped back, and nothing else."""
        if self.kept.offset != self.offset:
            self.kept.offset = self.offset
            self.write = self.kept, self.rules.life(self.kept, self.window, self.extra)

    def reply(self, *, least: int, denied: bool) -> tuple[int, ...]:
        """Return what the reply says of this limit."""
        retry = mark = 0
        total = self.total
        if denied and self.cap - total < least:
            retry = -1 if least > self.cap else self.fall(self.cap - least)
            mark = OWED if self.cap - self.used >= least else 0
        if self.box is not None and self.box.left:
            retry = max(retry, self.box.left) if retry >= 0 else -1
            mark = BLOCKED
        if total == 0:
            return 0, retry, 0, 0, self.receipt, mark
        more = self.fall(min(total, self.cap) - 1)
        return total, retry, self.fall(0), more, self.receipt, mark


class _Box:
    """A penalty box as a script has found it, and what becomes of it."""

    __slots__ = ("kept", "offset", "rule", "t", "write")

    def __init__(self, kept: Kept | None, now: int, rule: Sequence[int]) -> None:
        self.kept = kept or Kept()
        self.rule = rule
        self.t, self.offset = key_time(self.kept, now)
        self.write: Write = KEEP

    @property
    def left(self) -> int:
        """How much longer the subject is blocked."""
        return max(0, penalty.ends(self.kept) - self.t)

    def note(self) -> None:
        """Count a denial."""
        life = penalty.note(self.kept, self.t, self.rule)
        if life is not None:
            self.kept.last, self.kept.offset = self.t, self.offset
            self.write = self.kept, life


class _Take:
    """The fold of `take`."""

    __slots__ = ("_kinds", "_width")

    def __init__(self, kinds: tuple[type[Rules], ...], width: int) -> None:
        self._kinds = kinds
        self._width = width

    def __call__(self, states: Sequence[State], now: int, args: Sequence[Any]) -> _Pair:
        if len(args) == HEAD + PLAIN:
            change = self._plain(states[0], now, args)
            if change is not None:
                return change
        least, most, mode, token, span = args[:HEAD]
        seen = self._see(states, now, args)
        room = min([most, *(s.cap - s.total for s in seen)])
        denied = room < least or any(s.box is not None and s.box.left for s in seen)
        if mode and denied:
            _refuse(seen, least)
        elif mode in (TAKE, HOLD) and room > 0:
            _record(seen, room, mode, token, span)
        reply: list[Item] = [0, 0] if denied else [1, room]
        for s in seen:
            reply += s.reply(least=least, denied=denied)
        writes = [s.write for s in seen]
        writes += [s.box.write for s in seen if s.box is not None]
        return Change(writes, reply)

    def _plain(self, kept: Kept | None, now: int, args: Sequence[Any]) -> _Pair | None:
        """Decide where there is one limit and nothing out of the ordinary, at a third of the general cost."""
        least, most, mode, token, _, kind, cap, window, extra = args
        if mode != TAKE:
            return None
        if kept is None:
            kept = Kept()
        elif kept.held:
            return None
        t = now + kept.offset
        if t < kept.last:
            return None
        place: int = kind - 1
        rules = self._kinds[place]
        used = rules.count(kept, t, window, extra)
        units = most if used + most <= cap else cap - used
        if units < least:
            return _plain_denial(rules, kept, t, used, args) if used else None
        if units < 1:
            return None
        receipt = rules.take(kept, t, window, extra, units, token=token)
        kept.last = t
        used += units
        reset, more = rules.after(kept, t, window, extra, used)
        write = kept, rules.life(kept, window, extra)
        return (write,), [1, units, used, 0, reset, more, receipt, 0]  # a `Change` costs 0.2 us

    def _see(self, states: Sequence[State], now: int, args: Sequence[Any]) -> list[_Seen]:
        token, width = args[3], self._width
        limits = (len(args) - HEAD) // width
        boxes = iter(states[limits:])
        seen: list[_Seen] = []
        for place in range(limits):
            kind, cap, window, extra, *rule = args[HEAD + place * width :][:width]
            rules: type[Rules] = self._kinds[int(kind) - 1]
            s = _Seen(rules, states[place], now, token, (cap, window, extra))
            if rule and rule[0]:
                s.box = _Box(next(boxes), now, rule)
            seen.append(s)
        return seen


def _plain_denial(rules: type[Rules], kept: Kept, t: int, used: int, args: Sequence[Any]) -> _Pair:
    """Say what `reply` of a `_Seen` says of a denial, where there is neither a box nor a hold."""
    least, _, _, _, _, _, cap, window, extra = args
    retry = -1 if least > cap else rules.wait(kept, t, window, extra, used + least - cap)
    reset = rules.wait(kept, t, window, extra, used)
    more = rules.wait(kept, t, window, extra, used - min(used, cap) + 1)
    return (), [0, 0, used, retry, reset, more, 0, 0]


def _refuse(seen: list[_Seen], least: int) -> None:
    for s in seen:
        s.save_step()
        if s.box is not None and s.cap - s.total < least:
            s.box.note()


def _record(seen: list[_Seen], room: int, mode: int, token: int, span: int) -> None:
    for s in seen:
        if mode == HOLD:
            s.held = [*s.held, s.t + span, token, room]
            s.save(0, token)
            s.receipt = 0
        else:
            s.save(room, token)


class _Give:
    """The fold of `give`."""

    __slots__ = ("_kinds",)

    def __init__(self, kinds: tuple[type[Rules], ...]) -> None:
        self._kinds = kinds

    def __call__(self, states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
        token = args[0]
        writes: list[Write] = []
        reply: list[Item] = []
        for place, kept in enumerate(states):
            kind, cap, window, extra, receipt, units = args[1 + place * 6 :][:6]
            rules: type[Rules] = self._kinds[int(kind) - 1]
            s = _Seen(rules, kept, now, token, (cap, window, extra))
            given = units > 0 and s.rules.give(s.kept, s.t, window, extra, receipt, units=units)
            reply.append(units if given else 0)
            if given or len(s.held) != len(s.kept.held):
                s.used = s.rules.count(s.kept, s.t, window, extra)
                s.save(0, token)
                writes.append(s.write if s.total else DELETE)
            else:
                writes.append(KEEP)
        return Change(writes, reply)


def _fold_reset(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change([DELETE] * len(states), [sum(state is not None for state in states)])


RESET = Script("ratelimit.reset", lua=RESET_LUA, fold=_fold_reset, weigh=weigh)
"""Forgets keys; replies how many there were."""
