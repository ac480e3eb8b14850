"""The contract of stores, as users run it: ours pass, and each way to break it is found."""

from collections.abc import Sequence
from typing import Any

import pytest

from backendkit.core.operation import Operation
from backendkit.core.outcome import Outcome
from backendkit.stores import MemoryStore
from backendkit.testing import check_store
from backendkit.testing.stores import faults


class Broken:
    """A store around a sound one, with one thing wrong; either face."""

    def __init__(self, inner: Any, sync: Any = None) -> None:
        self.inner = inner
        self.closed = False
        self.sync: Any = sync or self
        if sync is None:
            self.aio = type(self)(inner.aio, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Forgetful(Broken):
    """Loses what batches have to say."""

    def run_many(self, operations: Sequence[Operation[Any]]) -> Any:
        """Return the outcomes in another order."""
        if self.sync is self:
            return self.inner.run_many(operations)[::-1]
        return _reversed(self.inner.run_many(operations))


async def _reversed(work: Any) -> list[Outcome[Any]]:
    found: list[Outcome[Any]] = await work
    return found[::-1]


class Immortal(Broken):
    """Cannot be closed."""

    def close(self) -> Any:
        """Do nothing."""
        return None if self.sync is self else _nothing()


async def _nothing() -> None:
    return None


class Textual(Broken):
    """Has one spelling of numbers, text."""

    def run(self, operation: Operation[Any]) -> Any:
        """Read other replies than the script has given."""

        def misread(reply: list[Any]) -> Any:
            return operation.read([n if isinstance(n, bytes) else float(n) for n in reply])  # type: ignore[misc]

        spelt = Operation(operation.script, operation.keys, operation.args, misread)
        return self.inner.run(spelt)


class Elsewhere(Broken):
    """Its faces do not lead to each other, and it counts nothing."""

    def stats(self) -> Any:
        """Return the first figures for ever."""
        return MemoryStore().stats()


def test_our_own_store_keeps_the_contract() -> None:
    """Nothing is raised."""
    check_store(MemoryStore)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Forgetful, "batches keep places and go on (async): the outcomes are"),
        (Immortal, "a closed store refuses (sync): this face runs on"),
        (Textual, "values travel exactly (sync): 0 came back as [0.0]"),
        (Elsewhere, "faces and figures (async): `stats().operations` went from 0 to 0 by one"),
    ],
)
def test_what_a_store_does_wrong_is_listed(kind: type[Broken], told: str) -> None:
    """With the question and the colour; both colours are asked."""
    found = list(faults(lambda: kind(MemoryStore())))
    assert any(line.startswith(told) for line in found), found
    assert {"(sync)" in line for line in found} == {True, False}
    with pytest.raises(AssertionError, match=f"{len(found)} faults:"):
        check_store(lambda: kind(MemoryStore()))


def test_a_store_that_raises_is_a_fault_and_not_the_end() -> None:
    """Each question is asked all the same."""

    class Raising(Broken):
        def run(self, operation: Operation[Any]) -> Any:
            raise KeyError("run")

        def run_many(self, operations: Sequence[Operation[Any]]) -> Any:
            raise KeyError("many")

    found = list(faults(lambda: Raising(MemoryStore())))
    assert len([line for line in found if "KeyError" in line]) >= 14
