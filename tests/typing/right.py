"""Uses that a type checker must accept, with the types it must see."""

from __future__ import annotations

from typing import assert_type

import backendkit
from backendkit.core.operation import Operation, Reply, Script


def first(reply: Reply) -> int:
    """Read a count."""
    return int(reply[0])


def count(script: Script) -> Operation[int]:
    """The type of an operation is that of its reader."""
    operation = Operation(script, (b"key",), [1], first)
    assert_type(operation, Operation[int])
    return operation


assert_type(backendkit.__version__, str)
