"""What belongs to the request at hand: its id, the fields bound to it, and its deadline.

A request's fields live in one mutable object that a context variable points to. Threads and tasks copy the
variable, not the object: what a handler in a worker thread binds is therefore seen by the access line, and by
sibling tasks, and behind middleware that runs the handler in another task. When the request ends its fields are
frozen, so that a job which outlives it cannot write into a record that was already told. What is only true for
a stretch of code is bound lexically, by `bound`, and ends with it. Deadlines nest and take the minimum.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any


class Request:
    """One request, for as long as it runs.

    Attributes:
        id: its identifier, `[A-Za-z0-9._-]{1,128}`.
        fields: what `bind` added; read it, and write through `bind`.
        ended: whether it is over and its fields are frozen.
        deadline_us: the moment, on the monotonic clock, by which it must be answered; None: no limit.
        aftermath: what routes add to the response as it goes out, see `http.messages`; None: nothing.
        outgoing: what the application wants of the frame's response headers, see `http.security`; None: the usual.
        personal: whether the response is for one user, whom a cookie named: no cache may give it to another.
    """

    __slots__ = (
        "_lock",
        "aftermath",
        "deadline_us",
        "ended",
        "fields",
        "id",
        "outgoing",
        "personal",
    )

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.fields: dict[str, Any] = {}
        self.ended = False
        self.deadline_us: int | None = None
        self.aftermath: Any = None
        self.outgoing: Any = None
        self.personal = False
        self._lock = threading.Lock()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add fields, unless it has ended. Of two threads that do so at once, neither loses any."""
        with self._lock:
            if not self.ended:
                # A new dict each time: readers in other threads never see one that changes under them.
                self.fields = {**self.fields, **fields}

    def end(self) -> None:
        """Freeze the fields."""
        with self._lock:
            self.ended = True


def enter(request: Request) -> Token[Request | None]:
    """Make `request` the current one of this thread or task, until `leave`."""
    return _request.set(request)


def leave(request: Request, token: Token[Request | None]) -> None:
    """End `request` and restore what was current before it."""
    request.end()
    try:
        _request.reset(token)
    except ValueError:
        _elsewhere(request)


def suspend(request: Request, token: Token[Request | None]) -> None:
    """Restore what was current before `request`, which goes on: `enter` it again to work for it.

    A synchronous server runs a response piece by piece, between pieces of others on the same thread. Works
    from another context than `enter` ran in, as happens when a server closes a response's iterable elsewhere:
    then there is nothing to restore there.
    """
    try:
        _request.reset(token)
    except ValueError:
        _elsewhere(request)


def _elsewhere(request: Request) -> None:
    """Forget `request` in a context that it was not entered in."""
    if _request.get() is request:
        _request.set(None)


def detach() -> None:
    """Go on, in this context, as work that is shared or outlives its request.

    Records still tell the request's id and fields as they are now. What is bound from here on is nobody's, and the
    request's deadline does not hold.
    """
    request = _request.get()
    if request is not None:
        shadow = Request(request.id)
        shadow.fields = request.fields
        shadow.ended = True
        _request.set(shadow)
    _deadline.set(None)


def current() -> Request | None:
    """Return the request that this thread or task works for, or None."""
    return _request.get()


def request_id() -> str | None:
    """Return the current request's id, or None outside a request."""
    request = _request.get()
    return None if request is None else request.id


def bind(**fields: Any) -> None:
    """Add fields to the whole current request: every later record of it, the access line included, has them.

    Outside a request, and once it has ended, this does nothing.
    """
    request = _request.get()
    if request is not None:
        request.add(fields)


@contextmanager
def bound(**fields: Any) -> Generator[None]:
    """Add fields to the records of a stretch of code, inside a request or not; they end with the block."""
    token = _bound.set(MappingProxyType({**_bound.get(), **fields}))
    try:
        yield
    finally:
        _bound.reset(token)


def fields() -> dict[str, Any]:
    """Return all fields in force here: the request's id as `request_id`, its own, and the lexical ones, which win."""
    request = _request.get()
    lexical = _bound.get()
    if request is None:
        return dict(lexical)
    return {"request_id": request.id, **request.fields, **lexical}


def deadline_us() -> int | None:
    """Return the moment, on the monotonic clock, by which the work at hand must end; None: no limit."""
    lexical, request = _deadline.get(), _request.get()
    if request is None or request.deadline_us is None or request.ended:
        return lexical
    return request.deadline_us if lexical is None else min(lexical, request.deadline_us)


@contextmanager
def until(mono_us: int) -> Generator[int]:
    """Set a deadline for a block of code, or keep the one in force where that is earlier; yields the one that holds."""
    effective, token = narrow(mono_us)
    try:
        yield effective
    finally:
        widen(token)


def narrow(mono_us: int) -> tuple[int, Token[int | None]]:
    """Do what `until` does at the start of its block, for hot paths; returns what holds, and what `widen` takes."""
    outer = _deadline.get() if _request.get() is None else deadline_us()
    effective = mono_us if outer is None or mono_us < outer else outer
    return effective, _deadline.set(effective)


def widen(token: Token[int | None]) -> None:
    """End what `narrow` began; in another context, as when a coroutine is thrown away, there is nothing to restore."""
    try:  # noqa: SIM105 - `suppress` takes longer than all of the rest
        _deadline.reset(token)
    except ValueError:
        pass


_request: ContextVar[Request | None] = ContextVar("backendkit_request", default=None)
_bound: ContextVar[Mapping[str, Any]] = ContextVar("backendkit_bound", default=MappingProxyType({}))
_deadline: ContextVar[int | None] = ContextVar("backendkit_deadline", default=None)
