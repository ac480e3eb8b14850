"""One application's errors: which exist, which foreign exceptions mean which, and how they are told.

`render` is total. Whatever is raised at it, however broken, comes out as valid UTF-8 JSON with a status in
400..599: it stands in the last line of an application's defence, and an error in it would be told to nobody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import AppError, InvalidArgument, MissingExtra
from backendkit.errors.envelope import Envelope, Format, Problem, text_of, to_bytes
from backendkit.errors.negotiation import preferred
from backendkit.errors.tree import ValidationFailed

ErrorFormat: TypeAlias = Literal["auto", "envelope", "problem"]
"""`auto` lets the client choose by Accept, and prefers the envelope."""

E = TypeVar("E", bound=BaseException)

Target: TypeAlias = "type[AppError] | Callable[[E], AppError | None]"
"""What a foreign exception becomes: a class, or a function's result; None: it stays unknown."""

MOST_LEAVES = 100
"""Exceptions of a group that are looked at."""


class Rendered(NamedTuple):
    """An error, ready to be sent.

    Attributes:
        status: 400..599.
        headers: names and values, safe to send: Content-Type, Content-Length, and what the error adds.
        body: UTF-8 JSON. A response to HEAD leaves it out and keeps the headers.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Errors:
    """A registry of errors, safe to use from any thread.

    Args:
        kinds: classes whose codes to check besides those that are already defined in a module. A class inside
            a function is checked only if it is named here.
        format: `envelope`, `problem` (RFC 9457), or `auto`: by the request's Accept header.
        docs_url: template of a problem's `type`, like `https://example.com/errors/{code}`; None: `urn:error:<code>`.
        clock: where timestamps come from; None: the machine's.

    Raises:
        InvalidArgument: two classes share a code, or a code is not UPPER_SNAKE, or a status not in 400..599.
    """

    __slots__ = (
        "_accepted",
        "_clock",
        "_codes",
        "_formats",
        "_rules",
        "_second",
        "_targets",
        "_vary",
    )

    def __init__(
        self,
        *kinds: type[AppError],
        format: ErrorFormat = "auto",  # noqa: A002 - the natural word, keyword-only
        docs_url: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._formats = _formats(format, docs_url)
        self._vary = (("Vary", "Accept"),) if len(self._formats) > 1 else ()
        self._accepted: dict[str | None, Format] = {}
        self._second: tuple[int, str] = (-1, "")
        self._targets: dict[type[BaseException], Callable[[Any], AppError | None]] = {
            AppError: _itself,
            # The calling code is wrong, or the installation: nothing that a client did or could mend.
            InvalidArgument: _unknown,
            MissingExtra: _unknown,
            ExceptionGroup: self._collapse,
        }
        self._rules: dict[type[BaseException], Callable[[Any], AppError | None]] = {}
        self._codes: dict[str, str] = {}
        self.adopt(*_defined(AppError), *kinds)

    @property
    def codes(self) -> MappingProxyType[str, str]:
        """The codes in use, each with the class that has it, as `module.QualifiedName`; read-only."""
        return MappingProxyType(self._codes)

    def adopt(self, *kinds: type[AppError]) -> None:
        """Check `kinds` and take their codes in; without any, those defined since.

        A class of the same module and qualified name replaces the earlier one, as a reload makes them. A
        class without a `code` of its own shares its parent's.

        Raises:
            InvalidArgument: see the class.
        """
        for kind in kinds or tuple(_defined(AppError)):
            _check(kind)
            name = f"{kind.__module__}.{kind.__qualname__}"
            if "code" not in vars(kind):
                continue
            other = self._codes.setdefault(kind.code, name)
            if other != name:
                raise InvalidArgument(
                    f"code of {name}", f"must be unique, and {other} has it", kind.code
                )

    def map(self, foreign: type[E], target: Target[E], *, replace: bool = True) -> None:
        """Have `foreign` exceptions, and subclasses without a nearer rule, told as `target`.

        Args:
            foreign: an exception class, also one of our own.
            target: an error class, made with the exception's text as its reason (for logs, never for clients),
                or a function from the exception to an error, or to None where it has no name.
            replace: False leaves a rule for exactly this class in force if there is one.
        """
        if replace or foreign not in self._targets:
            self._targets[foreign] = _maker(target) if isinstance(target, type) else target
            self._rules = {}

    def resolve(self, exc: BaseException) -> AppError:
        """Return the error that `exc` means; never raises an `Exception`.

        An `AppError` is itself; a foreign one goes by the rule of its class or its nearest base. A group becomes its
        one error, or several validation failures merged, or its most severe error. What no rule
        knows becomes a plain `AppError` (500) that says nothing, with `exc` as its `__cause__`.
        """
        try:
            error = self._rule(type(exc))(exc)
        except Exception as broken:  # noqa: BLE001 - a rule is foreign code; `exc` must be told all the same
            broken.__cause__ = exc
            error, exc = None, broken
        if not isinstance(error, AppError):
            error = AppError(type(exc).__name__)
        if error is not exc and error.__cause__ is None:
            error.__cause__ = exc
        return error

    def render(
        self, exc: BaseException, accept: str | None = None, request_id: str | None = None
    ) -> Rendered:
        """Return the response that tells `exc`; total, and takes about two microseconds.

        Args:
            exc: anything raised.
            accept: the request's Accept header; None: the client does not care.
            request_id: None: the current request's id, or empty outside a request.
        """
        error = self.resolve(exc)
        rid = request_id if request_id is not None else context.request_id() or ""
        form = self._format(accept)
        try:
            status = _status(error)
            body = to_bytes(form.write(error, status, rid, self._timestamp()))
            more = _headers(error)
        except Exception:  # noqa: BLE001 - a subclass may have made anything of its attributes
            error, status, more = _plain(error), _status(error), ()
            body = to_bytes(form.write(error, status, text_of(rid), self._timestamp()))
        headers = (
            ("Content-Type", form.media_type),
            ("Content-Length", str(len(body))),
            *self._vary,
            *more,
        )
        return Rendered(status, headers, body)

    def _rule(self, kind: type[BaseException]) -> Callable[[Any], AppError | None]:
        rule = self._rules.get(kind)
        if rule is None:
            targets = self._targets
            rule = next((targets[base] for base in kind.__mro__ if base in targets), _unknown)
            if len(self._rules) >= 1024:  # classes made at run time must not fill memory
                self._rules = {}
            self._rules[kind] = rule
        return rule

    def _collapse(self, group: BaseExceptionGroup[BaseException]) -> AppError | None:
        found = [self.resolve(leaf) for leaf in _leaves(group)]
        if not found:
            return None
        if len(found) > 1 and all(isinstance(error, ValidationFailed) for error in found):
            return ValidationFailed(details=[line for error in found for line in error.details])
        worst = max(found, key=_severity)
        return None if type(worst) is AppError else worst

    def _format(self, accept: str | None) -> Format:
        if len(self._formats) == 1 or accept is None:
            return self._formats[0]
        form = self._accepted.get(accept)
        if form is None:
            chosen = preferred(accept, [f.media_type for f in self._formats])
            form = next(f for f in self._formats if f.media_type == chosen)
            if len(self._accepted) >= 256:  # the keys are the clients' to choose
                self._accepted = {}
            if len(accept) <= 256:
                self._accepted[accept] = form
        return form

    def _timestamp(self) -> str:
        second = self._clock.wall_us() // SECOND_US
        known, text = self._second
        if second != known:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._second = (second, text)
        return text


_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset({"content-type", "content-length", "transfer-encoding", "connection"})


def _formats(name: ErrorFormat, docs_url: str | None) -> tuple[Format, ...]:
    known: dict[str, tuple[Format, ...]] = {
        "auto": (Envelope(), Problem(docs_url)),
        "envelope": (Envelope(),),
        "problem": (Problem(docs_url),),
    }
    if name not in known:
        raise InvalidArgument("format", "must be 'auto', 'envelope' or 'problem'", name)
    return known[name]


def _defined(kind: type[AppError]) -> Iterator[type[AppError]]:
    """Walk the classes below `kind` that live in a module."""
    for child in kind.__subclasses__():
        if "<locals>" not in child.__qualname__:
            yield child
        yield from _defined(child)


def _check(kind: type[AppError]) -> None:
    name = f"{kind.__module__}.{kind.__qualname__}"
    code: object = _attribute(kind, "code")
    status: object = _attribute(kind, "status")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise InvalidArgument(f"code of {name}", "must be UPPER_SNAKE, 1..64 characters", code)
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise InvalidArgument(f"status of {name}", "must be in 400..599", status)


def _itself(error: AppError) -> AppError:
    return error


def _unknown(_: BaseException) -> None:
    return None


def _maker(kind: type[AppError]) -> Callable[[BaseException], AppError]:
    return lambda exc: kind(text_of(exc))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Walk the group's exceptions, the first hundred; without recursion, for groups nest as deep as they like."""
    queue: list[BaseException] = [group]
    seen = 0
    while queue and seen < MOST_LEAVES:
        exc = queue.pop(0)
        if isinstance(exc, BaseExceptionGroup):
            queue[:0] = exc.exceptions
        else:
            seen += 1
            yield exc


def _severity(error: AppError) -> tuple[bool, int]:
    return type(error) is AppError, _status(error)


def _status(error: AppError) -> int:
    status = _attribute(error, "status")
    return int(status) if isinstance(status, int) and 400 <= status <= 599 else 500


def _headers(error: AppError) -> tuple[tuple[str, str], ...]:
    if error.retry_after is None and not error.headers:
        return ()
    return tuple(_safe_headers(error))


def _safe_headers(error: AppError) -> Iterator[tuple[str, str]]:
    """Yield the error's headers that may be sent as they are: no line can be broken, no body mislabelled."""
    retry_after = error.retry_after
    if retry_after is not None and math.isfinite(retry_after):
        yield "Retry-After", str(max(math.ceil(retry_after), 0))
    for name, value in error.headers.items():
        lower = name.lower()
        if lower in _OURS or (lower == "retry-after" and retry_after is not None):
            continue
        if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value):
            yield name, value.strip()


def _plain(error: AppError) -> AppError:
    """Make a well-behaved error of one whose attributes cannot be shown as they are."""
    plain = AppError()
    plain.status = _status(error)
    code = _attribute(error, "code")
    if isinstance(code, str) and _CODE.fullmatch(code):
        plain.code = str(code)
        plain.message = text_of(_attribute(error, "text") or plain.message)
    plain.details = list(_plain_details(_attribute(error, "details")))
    return plain


def _attribute(error: AppError | type[AppError], name: str) -> object:
    try:
        return getattr(error, name)
    except Exception:  # noqa: BLE001 - a property may raise anything
        return None


def _plain_details(details: object) -> Iterable[dict[str, str]]:
    if not isinstance(details, list | tuple):
        return
    for detail in details[:100]:
        if isinstance(detail, dict):
            yield {text_of(name): text_of(value) for name, value in list(detail.items())[:20]}
        else:
            yield {"issue": text_of(detail)}
