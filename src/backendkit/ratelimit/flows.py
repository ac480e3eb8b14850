"""What takes several steps, written once for both colours: waiting for room, several slots, permits in advance."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from backendkit.core.errors import CrossSlot, StoreError
from backendkit.core.flow import Load
from backendkit.core.operation import Operation, Reply
from backendkit.core.outcome import Error, Outcome
from backendkit.ratelimit.decide import FIELDS, HOLD, LOOK, NOTE, OWED, TAKE
from backendkit.ratelimit.decision import Decision
from backendkit.ratelimit.desk import Check, Desk, new_token, retry_us
from backendkit.ratelimit.plan import Plan
from backendkit.ratelimit.turns import Turn, Turns

R = TypeVar("R")

FIRST_LOOK_US = 5_000
LONGEST_LOOK_US = 100_000
"""How often the head of a line looks for room that somebody may have given back; doubled from the one to the other."""


class LimiterIO(Protocol):
    """All that these flows ask of the world. A synchronous one's verbs never suspend."""

    async def run(self, operation: Operation[R]) -> R:
        """Carry out an operation."""
        ...

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations that do not depend on each other."""
        ...

    async def wait(self, us: int) -> None:
        """Let time pass."""
        ...

    async def share(self, key: object, load: Load[R]) -> Outcome[R]:
        """Run `load` once for all who ask for `key` meanwhile."""
        ...

    async def turn(self, turn: Turn, us: int) -> bool:
        """Wait for a place in a line to become its head; return whether it did in time."""
        ...

    async def whole(
        self, flow: Callable[[], Coroutine[Any, Any, Decision]], undo: Undo
    ) -> Decision:
        """Run a flow that counts; where the caller goes away meanwhile, what it counted is undone."""
        ...


class Undo(Protocol):
    """Gives back what a decision counted."""

    def __call__(self, decision: Decision, /) -> Coroutine[Any, Any, bool]:
        """Give it back."""
        ...


async def hit(desk: Desk, io: LimiterIO, check: Check) -> Decision:
    """Ask the store; where it fails, the failure policy."""
    try:
        return await ask(desk, io, check)
    except StoreError as error:
        return desk.failed(check, error)


async def ask(desk: Desk, io: LimiterIO, check: Check) -> Decision:
    """Ask the store.

    Raises:
        StoreError: it has failed; who asked decides what follows.
    """
    sent_us = desk.mono_us()
    try:
        reply = await io.run(check.operation)
    except CrossSlot:
        return await _spread(desk, io, check)
    return desk.settle(check, reply, sent_us)


async def cancel(desk: Desk, io: LimiterIO, decision: Decision) -> bool:
    """Give back the units of a decision; return whether any were there."""
    if decision.source == "local":
        return desk.refund_local(decision)
    operation = desk.refund(decision)
    if operation is None:
        return False
    try:
        reply: Reply = await io.run(operation)
        return any(reply)
    except CrossSlot:
        outcomes = await io.run_many(_singly(operation))
        return any(not isinstance(outcome, Error) and any(outcome.value) for outcome in outcomes)
    except StoreError:
        return False


async def reset(io: LimiterIO, operation: Operation[Reply]) -> bool:
    """Forget keys; return whether the store did."""
    try:
        await io.run(operation)
    except CrossSlot:
        outcomes = await io.run_many(
            [Operation(operation.script, (key,), (), operation.read) for key in operation.keys]
        )
        return not any(isinstance(outcome, Error) for outcome in outcomes)
    except StoreError:
        return False
    return True


async def acquire(
    desk: Desk, io: LimiterIO, turns: Turns, check: Check, wait_us: int, *, patient: bool
) -> Decision:
    """Take as soon as there is room; return the last denial where there is none in time.

    Args:
        desk: the limiter's.
        io: the caller's colour.
        turns: the limiter's lines.
        check: what to take; made for this call.
        wait_us: how long to wait at most.
        patient: whether to go on although time alone frees nothing in time, because others may give back.
    """

    async def attempt() -> Decision:
        return await hit(desk, io, check)

    async def undo(decision: Decision) -> bool:
        return await cancel(desk, io, decision)

    if wait_us <= 0:
        return await io.whole(attempt, undo)
    due_us = desk.mono_us() + wait_us
    turn = turns.join(check.keys)
    try:
        if not turn.came and not await io.turn(turn, wait_us):
            return await io.whole(attempt, undo)
        return await _at_the_head(desk, io, attempt, undo, due_us, patient=patient)
    finally:
        turns.leave(turn)


async def _at_the_head(
    desk: Desk,
    io: LimiterIO,
    attempt: Callable[[], Coroutine[Any, Any, Decision]],
    undo: Undo,
    due_us: int,
    *,
    patient: bool,
) -> Decision:
    look_us = FIRST_LOOK_US
    while True:
        decision = await io.whole(attempt, undo)
        left_us = due_us - desk.mono_us()
        wait_us = retry_us(decision)
        if decision.allowed or wait_us is None or left_us <= 0:
            return decision
        if not patient and wait_us > left_us:
            return decision
        if patient:
            wait_us = min(max(wait_us, 1), look_us, left_us)
            look_us = min(2 * look_us, LONGEST_LOOK_US)
        await io.wait(max(wait_us, 1))


async def _spread(desk: Desk, io: LimiterIO, check: Check) -> Decision:
    """Take from limits whose keys lie in several slots of a Cluster, where no script can see them all.

    All are asked, then tentative units are put on each in the order of their slots, which counts against everybody
    else from then on, then all are made real. Never admits too much; may deny where two such requests meet.
    """
    parts = [_Part(desk, check, places) for places in _by_slot(check)]
    looking = LOOK if check.mode == LOOK else NOTE
    looks = await io.run_many([part.look(looking) for part in parts])
    if (error := _first_error(looks)) is not None:
        raise error
    replies = [outcome.unwrap() for outcome in looks]
    if check.mode == LOOK or not all(reply[0] for reply in replies):
        return _settled(desk, check, parts, replies)
    units = min(reply[1] for reply in replies)
    token = check.token or new_token()
    held: list[_Part] = []
    for place, part in enumerate(parts):
        try:
            replies[place] = await io.run(part.take(units, HOLD, token, desk.hold_us))
        except StoreError:
            await io.run_many([each.drop(token) for each in parts])
            raise
        if not replies[place][0]:
            await io.run_many([each.drop(token) for each in held])
            return _settled(desk, check, parts, replies)
        held.append(part)
    return await _commit(desk, io, check, parts, units=units, token=token)


async def _commit(
    desk: Desk, io: LimiterIO, check: Check, parts: list[_Part], *, units: int, token: int
) -> Decision:
    outcomes = await io.run_many([part.take(units, TAKE, token) for part in parts])
    replies = [None if isinstance(outcome, Error) else outcome.value for outcome in outcomes]
    if all(reply is not None and reply[0] for reply in replies):
        return _settled(desk, check, parts, [reply for reply in replies if reply is not None])
    await io.run_many(
        [part.give(reply) for part, reply in zip(parts, replies, strict=True) if reply and reply[0]]
    )
    if (error := _first_error(outcomes)) is not None:
        raise error
    for reply in replies:  # a hold was late: others have taken the room meanwhile
        if reply is not None and reply[0]:
            reply[0] = 0
    return _settled(desk, check, parts, [reply for reply in replies if reply is not None])


class _Part:
    """The limits of a check that lie in one slot."""

    __slots__ = ("_check", "keys", "places", "plan")

    def __init__(self, desk: Desk, check: Check, places: list[int]) -> None:
        self._check = check
        self.places = places
        self.plan: Plan = desk.plan(tuple(check.plan.limits[place] for place in places))
        self.keys = self.plan.keys([check.tags[place] for place in places])

    def look(self, mode: int) -> Operation[Reply]:
        return self.plan.take(self.keys, self._check.least, self._check.most, mode)

    def take(self, units: int, mode: int, token: int, span_us: int = 0) -> Operation[Reply]:
        return self.plan.take(self.keys, units, units, mode, token=token, span=span_us)

    def drop(self, token: int) -> Operation[Reply]:
        return self.plan.give(self.keys, [0] * len(self.places), 0, token)

    def give(self, reply: Sequence[Any]) -> Operation[Reply]:
        return self.plan.give(self.keys, list(reply[6::FIELDS]), reply[1])


def _settled(desk: Desk, check: Check, parts: list[_Part], replies: list[Any]) -> Decision:
    """Put the parts' replies together into one, in the order of the limits."""
    by_place: dict[int, list[int]] = {}
    for part, reply in zip(parts, replies, strict=True):
        for n, place in enumerate(part.places):
            by_place[place] = reply[2 + FIELDS * n : 2 + FIELDS * (n + 1)]
    allowed = all(reply[0] for reply in replies)
    numbers = [int(allowed), min(reply[1] for reply in replies) if allowed else 0]
    for place in sorted(by_place):
        numbers += by_place[place]
    if not allowed and not any(numbers[3::FIELDS]):
        numbers[3], numbers[7] = desk.hold_us, OWED
    return desk.settle(check, numbers, desk.mono_us())


def _by_slot(check: Check) -> list[list[int]]:
    """Return the places of limits that share a slot, in ascending order of slots."""
    slots: dict[int, list[int]] = {}
    for place, tag in enumerate(check.tags):
        slots.setdefault(crc_hqx(tag, 0) % 16384, []).append(place)
    return [slots[slot] for slot in sorted(slots)]


def _singly(operation: Operation[Reply]) -> list[Operation[Reply]]:
    """Return a `give` of several keys as one for each."""
    token, *rest = operation.args
    return [
        Operation(operation.script, (key,), (token, *rest[6 * n : 6 * n + 6]), operation.read)
        for n, key in enumerate(operation.keys)
    ]


def _first_error(outcomes: Sequence[Outcome[Any]]) -> StoreError | None:
    for outcome in outcomes:
        if isinstance(outcome, Error):
            if not isinstance(outcome.error, StoreError):
                raise outcome.error
            return outcome.error
    return None
