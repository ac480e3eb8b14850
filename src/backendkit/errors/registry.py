"""One application's errors: which exist, which foreign exceptions mean which, and how they are told.

`render` is total. Whatever is raised at it, however broken, comes out as valid UTF-8 JSON with a status in
400..599: it stands in the last line of an application's defence, and an error in it would be told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar
from weakref import WeakSet

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import AppError, InvalidArgument, MissingExtra
from backendkit.errors.envelope import Envelope, Format, Problem
from backendkit.errors.groups import MOST_LEAVES, collapsed, leaves
from backendkit.errors.kinds import check, defined
from backendkit.errors.negotiation import preferred
from backendkit.errors.texts import text_of, to_bytes
from backendkit.errors.told import Told, headers_of, tell, tell_plainly

if TYPE_CHECKING:
    from backendkit.errors.catalogue import Catalogue
    from backendkit.errors.messages import Catalogues, Messages
    from backendkit.errors.shapes import Shape

ErrorFormat: TypeAlias = Literal["auto", "envelope", "problem"]
"""`auto` lets the client choose by Accept, and prefers the envelope."""

_LIBRARY = "backendkit."

E = TypeVar("E", bound=BaseException)

Target: TypeAlias = "type[AppError] | Callable[[E], AppError | None]"
"""What a foreign exception becomes: a class, or a function's result; None: it stays unknown."""


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

    A code is unique within one registry. The library's own classes and those that are passed are checked when it is
    built; the application's others when they are first told, or by `adopt`: a process may hold several applications, and
    what one calls `SEAT_TAKEN` is no business of the other. A clash that shows only then is warned of,
    once, and fails no request.

    A registry that is given classes, here or by `adopt`, lists them in its catalogue, and the library's, those it maps to,
    and those it has told. One that is given none takes every class of the process for its application's.

    Args:
        kinds: the application's classes, whose codes to check at once; several applications of one process name theirs.
        format: `envelope`, `problem` (RFC 9457), or `auto`: by the request's Accept header.
        docs_url: template of a problem's `type`, like `https://example.com/errors#{code}`; None: `urn:error:<code>`.
        clock: where timestamps come from; None: the machine's.
        shape: a body of the application's own in the envelope's place: a function, or a `Shape`.
        params: whether the parameters of messages travel beside them, with their types; only those that the
            message names. A `shape` decides that for itself.
        messages: see `translate`, which takes them later as well.

    Raises:
        InvalidArgument: two of `kinds` share a code, or a code is not UPPER_SNAKE, or a status not in 400..599; a shape
            that fails on a sample; messages that do not fit.
    """

    __slots__ = (
        "_accepted",
        "_clock",
        "_codes",
        "_formats",
        "_kinds",
        "_messages",
        "_noticed",
        "_open",
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
        shape: Callable[[Told], object] | Shape | None = None,
        params: bool = False,
        messages: Catalogues | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._formats = _formats(
            format, _first(shape, params=params), Problem(docs_url, params=params)
        )
        self._vary = (("Vary", "Accept"),) if len(self._formats) > 1 else ()
        self._accepted: dict[str | None, Format] = {}
        self._second: tuple[int, str] = (-1, "")
        self._messages: Messages | None = None
        self._targets: dict[type[BaseException], Callable[[Any], AppError | None]] = {
            AppError: _itself,
            # The calling code is wrong, or the installation: nothing that a client did or could mend.
            InvalidArgument: _unknown,
            MissingExtra: _unknown,
            BaseExceptionGroup: self._collapse,
        }
        self._rules: dict[type[BaseException], Callable[[Any], AppError | None]] = {}
        self._codes: dict[str, str] = {}
        self._kinds: dict[str, type[AppError]] = {}
        self._noticed: WeakSet[type[BaseException]] = WeakSet()
        own = (kind for kind in defined() if kind.__module__.startswith(_LIBRARY))
        self.adopt(AppError, *own, *kinds)
        self._open = not kinds
        if messages is not None:
            self.translate(messages)

    @property
    def codes(self) -> MappingProxyType[str, str]:
        """The codes in use, each with the class that has it, as `module.QualifiedName`; read-only."""
        return MappingProxyType(self._codes)

    @property
    def kinds(self) -> MappingProxyType[str, type[AppError]]:
        """The classes by code; read-only."""
        return MappingProxyType(self._kinds)

    def adopt(self, *kinds: type[AppError]) -> None:
        """Check `kinds` and take their codes in; without any, all that are defined by now and clash with none.

        A class of the same module and qualified name replaces the earlier one, as a reload makes them. A
        class without a `code` of its own shares its parent's.

        Raises:
            InvalidArgument: one of `kinds` shares a code, or its code or status is wrong.
        """
        for kind in kinds:
            self._take(kind)
        if kinds:
            self._open = False
        else:
            self._look_around(everywhere=True)

    def _look_around(self, *, everywhere: bool) -> None:
        for kind in defined():
            if everywhere or kind.__module__.startswith(_LIBRARY):
                self._notice(kind)

    def _take(self, kind: type[AppError]) -> None:
        check(kind)
        if "code" not in vars(kind):
            return
        name = f"{kind.__module__}.{kind.__qualname__}"
        other = self._codes.setdefault(kind.code, name)
        if other != name:
            raise InvalidArgument(
                f"code of {name}", f"must be unique, and {other} has it", kind.code
            )
        self._kinds[kind.code] = kind

    def _notice(self, kind: type[BaseException]) -> None:
        """Take in a class that turns up later; what is wrong with it is warned of, once."""
        if not issubclass(kind, AppError) or kind in self._noticed:
            return
        self._noticed.add(kind)
        try:
            self._take(kind)
        except Exception as error:  # noqa: BLE001 - an attribute of the class may be a property that raises
            import logging  # noqa: PLC0415 - half of what this package takes to import, for what nobody should see

            told = "an error class was not taken into the registry: %s"
            logging.getLogger("backendkit.errors").warning(told, error)

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
            if isinstance(target, type):
                self._notice(target)

    def translate(self, messages: Catalogues, *, language: str = "en") -> None:
        """Tell errors in the language that `accept_language` asks for; replaces what was given before.

        Args:
            messages: by language tag a catalogue, or the path of a JSON file with one:
                `{"de": {"errors": {"SEAT_TAKEN": "Platz {seat} ist belegt"}, "issues": {"REQUIRED": "Fehlt"}}}`.
                One for `language` rewords what the classes say, and may bring keys of issues of its own.
            language: tag of the language in which the classes' messages are written, and the default.

        Raises:
            MessagesError: with everything that is wrong: codes that no class has (yet), parameters
                that a message does not have, files that cannot be read.
        """
        from backendkit.errors.messages import Messages  # noqa: PLC0415 - only where it is wanted

        self._look_around(everywhere=self._open)
        self._messages = Messages(messages, language, self._kinds)
        names = ["Accept"] * (len(self._formats) > 1) + ["Accept-Language"]
        self._vary = (("Vary", ", ".join(names)),)

    def catalogue(self) -> Catalogue:
        """Return all errors that clients can be told, to be read as JSON, Markdown or HTML.

        Those of this registry; of the whole process where it was given no classes, see above.
        """
        from backendkit.errors.catalogue import Catalogue, entry  # noqa: PLC0415 - no request needs it

        self._look_around(everywhere=self._open)
        told = [kind for kind in self._kinds.values() if self._rule(kind) is not _unknown]
        return Catalogue(tuple(sorted(map(entry, told), key=lambda e: (e.status, e.code))))

    def resolve(self, exc: BaseException) -> AppError:
        """Return the error that `exc` means; never raises an `Exception`.

        An `AppError` is itself; a foreign one goes by the rule of its class or its nearest base. A group becomes its
        one error, or several validation failures merged, or its most severe error; one that is unknown among
        them makes it unknown. What no rule knows becomes a plain `AppError` (500) that says nothing, with `exc` as
        its `__cause__`.
        """
        try:
            error = self._rule(type(exc))(exc)
        except Exception as broken:  # noqa: BLE001 - a rule is foreign code; `exc` must be told all the same
            error = None
            if broken is not exc:
                _caused(broken, exc)
                exc = broken
        if not isinstance(error, AppError):
            error = AppError(type(exc).__name__)
        elif isinstance(exc, BaseExceptionGroup):
            return error  # it may be one of the group's own, whose cause the group is not
        return error if error is exc else _caused(error, exc)

    def tell(
        self,
        exc: BaseException,
        request_id: str | None = None,
        *,
        accept_language: str | None = None,
    ) -> Told:
        """Return what is told of `exc`, before it takes a shape; total. Arguments as for `render`."""
        error = self.resolve(exc)
        rid = request_id if request_id is not None else context.request_id() or ""
        messages = self._messages
        try:
            language = None if messages is None else messages.language(accept_language)
            return tell(error, rid, self._timestamp(), language)
        except Exception:  # noqa: BLE001 - a subclass may have made anything of its attributes
            return tell_plainly(error, rid, self._timestamp())

    def render(
        self,
        exc: BaseException,
        accept: str | None = None,
        request_id: str | None = None,
        *,
        accept_language: str | None = None,
    ) -> Rendered:
        """Return the response that tells `exc`; total, and takes about three microseconds.

        Args:
            exc: anything raised.
            accept: the request's Accept header; None: the client does not care.
            request_id: None: the current request's id, or empty outside a request.
            accept_language: the request's Accept-Language header; without `translate` it is not looked at.
        """
        told = self.tell(exc, request_id, accept_language=accept_language)
        form = self._format(accept)
        try:
            body, more = to_bytes(form.write(told)), headers_of(told.error)
        except Exception:  # noqa: BLE001 - as above, and a shape is foreign code
            told, more = tell_plainly(told.error, told.request_id, told.timestamp), ()
            form, body = _written(form, told)
        headers = (
            ("Content-Type", form.media_type),
            ("Content-Length", str(len(body))),
            *self._vary,
            *more,
        )
        if told.language is not None:
            headers += (("Content-Language", told.language),)
        return Rendered(told.status, headers, body)

    def _rule(self, kind: type[BaseException]) -> Callable[[Any], AppError | None]:
        rule = self._rules.get(kind)
        if rule is None:
            targets = self._targets
            rule = next((targets[base] for base in kind.__mro__ if base in targets), _unknown)
            self._notice(kind)
            if len(self._rules) >= 1024:  # classes made at run time must not fill memory
                self._rules = {}
            self._rules[kind] = rule
        return rule

    def _collapse(self, group: BaseExceptionGroup[BaseException]) -> AppError | None:
        found: list[AppError] = []
        for leaf in leaves(group):
            if len(found) >= MOST_LEAVES:
                return None
            found.append(self.resolve(leaf))
        return collapsed(found)

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
            from datetime import UTC, datetime  # noqa: PLC0415 - a fifth of what this package takes to import

            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._second = (second, text)
        return text


def _first(shape: Callable[[Told], object] | Shape | None, *, params: bool) -> Format:
    if shape is None:
        return Envelope(params=params)
    from backendkit.errors.shapes import Shape  # noqa: PLC0415 - only where it is wanted

    return shape if isinstance(shape, Shape) else Shape(shape)


def _formats(name: ErrorFormat, first: Format, problem: Problem) -> tuple[Format, ...]:
    known: dict[str, tuple[Format, ...]] = {
        "auto": (first,) if first.media_type == problem.media_type else (first, problem),
        "envelope": (first,),
        "problem": (problem,),
    }
    if name not in known:
        raise InvalidArgument("format", "must be 'auto', 'envelope' or 'problem'", name)
    return known[name]


def _written(form: Format, told: Told) -> tuple[Format, bytes]:
    """Write the body in this format if that can be done, else as the envelope, which always can."""
    try:
        return form, to_bytes(form.write(told))
    except Exception:  # noqa: BLE001 - a shape is foreign code
        envelope = Envelope()
        return envelope, to_bytes(envelope.write(told))


_X = TypeVar("_X", bound=BaseException)


def _caused(error: _X, exc: BaseException) -> _X:
    """Note that `exc` led to `error`, for logs, unless it says otherwise or cannot be told, like a frozen dataclass."""
    try:  # `suppress` takes as long as all of the rest
        if error.__cause__ is None:
            error.__cause__ = exc
    except Exception:  # noqa: BLE001, S110 - a frozen dataclass, say
        pass
    return error


def _itself(error: AppError) -> AppError:
    return error


def _unknown(_: BaseException) -> None:
    return None


def _maker(kind: type[AppError]) -> Callable[[BaseException], AppError]:
    return lambda exc: kind(text_of(exc))
