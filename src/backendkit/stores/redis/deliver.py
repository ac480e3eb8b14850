"""What happens when a first answer is no reply: one flow, for both colours and all topologies.

A hot path sends an operation where it belongs and returns the reply. Anything else comes here. The flow sends
again only what the answer proves not to have run, and only within the operation's own time.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Protocol

from backendkit.core.errors import NotSent, OutcomeUnknown, StoreError, StoreUnavailable
from backendkit.core.look import LOOK, unsaid
from backendkit.core.operation import Operation, Reply
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.shared import Shared
from backendkit.stores.redis.topology import Wire
from backendkit.stores.redis.verdict import Raw, Verdict, code_of, judge
from backendkit.stores.redis.wire import ASKING


class Carrier(Wire, Protocol):
    """A wire that also carries operations."""

    async def exchange(
        self,
        operation: Operation[Any],
        address: Address,
        payload: bytes,
        due_us: int,
        *,
        skip: int = 0,
    ) -> Raw:
        """Send packed commands to a server and return what comes back for the last, by `due_us` (real, monotonic)."""
        ...


class Delivery:
    """One operation on its way, for as long as that takes more than one attempt.

    Args:
        shared: the store.
        operation: what to send. All further attempts share the time that one has.
        address: where the first attempt went; None if nobody knew where to.
        due_us: by when, on the real monotonic clock.
    """

    __slots__ = (
        "_address",
        "_asking",
        "_due_us",
        "_evaluate",
        "_operation",
        "_pause_us",
        "_redirects",
        "_refusal",
        "_shared",
        "_topology",
    )

    def __init__(
        self,
        shared: Shared,
        operation: Operation[Any],
        address: Address | None,
        due_us: int,
    ) -> None:
        self._shared = shared
        self._topology = shared.topology
        self._operation = operation
        self._address = address
        self._due_us = due_us
        self._asking = False
        self._evaluate = False
        self._pause_us = _FIRST_PAUSE_US
        self._redirects = 0
        self._refusal: Raw = None

    async def run(self, carrier: Carrier, raw: Raw | None) -> Reply:
        """Go on until there is a reply.

        Args:
            carrier: who sends.
            raw: what came back from the first attempt, if there was one.

        Raises:
            NotSent: nothing ran.
            OutcomeUnknown: it may have run.
        """
        # Not whether `raw` is None: a script that answers nil has run all the same.
        sent = self._address is not None
        while True:
            if sent:
                self._check_time(raw)
                await self._react(carrier, raw)
                self._shared.ledger.resent()
            raw = await self._send(carrier)
            sent = True
            if type(raw) is list:
                return raw

    async def _send(self, carrier: Carrier) -> Raw:
        if self._address is None:
            self._address = self._topology.address(self._operation)
        if self._address is None:
            await self._learn(carrier)
            self._address = self._topology.address(self._operation)
        if self._address is None:
            return StoreUnavailable("no server owns the slot of these keys")
        if self._operation.script is LOOK and self._topology.slotted:
            return unsaid(self._operation)  # the keys need not be this server's any more
        pack = self._shared.packer.pack_eval if self._evaluate else self._shared.packer.pack
        payload = pack(self._operation)
        if self._asking:
            self._asking = False
            payload = ASKING + payload
            return await carrier.exchange(
                self._operation, self._address, payload, self._due_us, skip=1
            )
        return await carrier.exchange(self._operation, self._address, payload, self._due_us)

    async def _learn(self, carrier: Carrier) -> None:
        seen, hurried = self._topology.generation, self._shared.hurried()
        await self._topology.learn(carrier, seen, self._due_us, hurried=hurried)

    async def _react(self, carrier: Carrier, raw: Raw) -> None:
        """Prepare the next attempt, or raise if there must be none."""
        verdict = judge(raw)
        match verdict:
            case Verdict.EVALUATE:
                self._evaluate = True
            case Verdict.MOVED | Verdict.ASK:
                await self._redirect(carrier, raw, asking=verdict is Verdict.ASK)
            case Verdict.LATER:
                await self._pause(carrier, raw)
            case Verdict.ELSEWHERE:
                self._look_again()
                await self._pause(carrier, raw)
            case Verdict.UNREACHABLE:
                await self._find_another(carrier, raw)
            case Verdict.REFUSED:
                raise _refused(raw)
            case Verdict.UNKNOWN:
                raise self._unknown(raw)

    def _look_again(self) -> None:
        """Have the servers be asked before the next attempt, whoever makes it."""
        self._topology.suspect(self._address)
        self._address = None

    def _check_time(self, raw: Raw) -> None:
        """Raise the refusal that time was spent on, where it is over: that says more than that it is."""
        if self._refusal is not None and isinstance(raw, NotSent) and self._is_over():
            raise _unready(self._refusal)

    def _is_over(self) -> bool:
        return self._shared.time.mono_us() >= self._due_us

    async def _redirect(self, carrier: Carrier, raw: Any, *, asking: bool) -> None:
        if self._is_over():
            raise _refused(raw)
        self._redirects += 1
        if self._redirects > _FREE_REDIRECTS:  # nodes that disagree must not be stormed meanwhile
            await self._pause(carrier, raw)
        answered = self._address.host if self._address else ""
        host = raw.host or answered  # an empty host means the one that answered
        self._address = Address(host, raw.port)
        self._asking = asking
        if not asking:
            self._topology.moved(raw.slot_id, self._address)

    def _unknown(self, raw: Raw) -> StoreError:
        if isinstance(raw, OutcomeUnknown):
            self._topology.suspect(self._address)
            return copy(raw)
        if isinstance(raw, Exception):
            return OutcomeUnknown(f"Redis failed within the script; it may have run in part: {raw}")
        return OutcomeUnknown(f"Redis answered with {type(raw).__name__}, not a list; it has run")

    async def _pause(self, carrier: Carrier, raw: Any) -> None:
        if self._shared.time.mono_us() + self._pause_us >= self._due_us:
            raise _unready(raw)
        self._refusal = raw
        await carrier.wait(self._pause_us)
        self._pause_us = min(2 * self._pause_us, _LONGEST_PAUSE_US)

    async def _find_another(self, carrier: Carrier, raw: Raw) -> None:
        """After a connection that could not be made: go on only if another server has taken over."""
        failed = self._address
        self._look_again()
        if not self._is_over():
            try:
                await self._learn(carrier)
            except NotSent:
                raise _refused(raw) from None
            self._address = self._topology.address(self._operation)
            if self._address is not None and self._address != failed:
                return
        raise _refused(raw)


def _shown(raw: Any) -> str:
    """Return a server's refusal with its code, which redis-py strips from some."""
    code, text = code_of(raw), str(raw)
    return text if text.startswith(code) else f"{code} {text}"


def _unready(raw: Any) -> NotSent:
    reason = f"Redis did not become ready in time: {_shown(raw)}"
    # A slot under way makes no server unavailable.
    by_slot = judge(raw) in (Verdict.MOVED, Verdict.ASK) or code_of(raw) == "TRYAGAIN"
    return NotSent(reason) if by_slot else StoreUnavailable(reason)


def _refused(raw: Any) -> StoreError:
    # A copy, here and above: one failure may be told to many callers, and each raise adds to its traceback.
    if isinstance(raw, NotSent):
        return copy(raw)
    return NotSent(f"Redis refused, nothing ran: {_shown(raw)}")


_FREE_REDIRECTS = 4
"""How many are followed at once: a slot that moves takes three at most."""

_FIRST_PAUSE_US = 1_000
_LONGEST_PAUSE_US = 50_000
"""Pauses between attempts double from the one to the other."""
