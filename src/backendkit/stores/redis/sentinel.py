"""The master behind Sentinels.

Source: https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backendkit.core.errors import StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.topology import Learnt, Wire, text_of


class SentinelMaster(Learnt):
    """The master that Sentinels name, as they name it now.

    Args:
        dial: options of connections to the master.
        sentinels: where Sentinels listen, in the order in which to ask.
        service: the name under which they watch the master.
        sentinel_dial: options of connections to them.
    """

    __slots__ = ("_master", "_sentinel_dial", "_sentinels", "_service")

    def __init__(
        self, dial: Dial, sentinels: Sequence[Address], service: str, sentinel_dial: Dial
    ) -> None:
        super().__init__(dial)
        self._sentinels = list(sentinels)
        self._service = service
        self._sentinel_dial = sentinel_dial
        self._master: Address | None = None

    def address(self, operation: Operation[Any]) -> Address | None:
        """Return the master's address, or None if it must be asked for first."""
        return None if self._stale else self._master

    def primaries(self) -> list[Address] | None:
        """Return the master's address, or None if it must be asked for first."""
        return None if self._stale or self._master is None else [self._master]

    def route(self, operation: Operation[Any]) -> str:
        """Return the service's name: it fails and recovers as one, whichever server is its master."""
        return self._service

    def moved(self, slot: int, address: Address) -> None:
        """Do nothing: a server that is no Cluster names no owners."""

    async def _ask(self, wire: Wire, due_us: int) -> None:
        reasons: list[str] = []
        for sentinel, until_us in self._in_turn(list(self._sentinels), due_us):
            try:
                named = await wire.command(
                    self._sentinel_dial,
                    sentinel,
                    until_us,
                    "SENTINEL",
                    "GET-MASTER-ADDR-BY-NAME",
                    self._service,
                )
                if named is None:
                    reasons.append(f"{sentinel} does not know {self._service!r}")
                    continue
                master = Address(text_of(named[0]), int(named[1]))
                # A Sentinel that was cut off may name the old master; the server itself knows what it is.
                role = await wire.command(self.dial, master, until_us, "ROLE")
            except StoreUnavailable as error:
                reasons.append(error.reason)
                continue
            if text_of(role[0]) == "master":
                self._master = master
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # who answered is asked first next time
                self._learnt()
                return
            reasons.append(f"{master}, which {sentinel} names, is no master")
        raise StoreUnavailable(f"no master of {self._service!r} found: " + "; ".join(reasons))
