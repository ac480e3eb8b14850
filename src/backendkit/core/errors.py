"""The base of every error that this library raises, and those that its lower floors raise.

    AppError                        500  INTERNAL_ERROR
    ├── InvalidArgument             500  INVALID_ARGUMENT      also a ValueError: the calling code is wrong
    │   └── CrossSlot               500  CROSS_SLOT            an operation over several Cluster slots
    ├── MissingExtra                500  MISSING_EXTRA         also an ImportError: an optional package is absent
    ├── Unauthorized                401  UNAUTHORIZED          who are you? answers with WWW-Authenticate
    │   ├── InvalidToken            401  INVALID_TOKEN
    │   └── TokenExpired            401  TOKEN_EXPIRED
    ├── Forbidden                   403  FORBIDDEN             I know who you are: no
    ├── DeadlineExceeded            504  DEADLINE_EXCEEDED     the time that the work was given is over
    ├── RateLimited                 429  RATE_LIMITED
    └── ServiceUnavailable          503  SERVICE_UNAVAILABLE
        ├── Overloaded              503  OVERLOADED            this process has no room for more work
        └── StoreError              503  STORE_ERROR
            ├── NotSent             503  STORE_NOT_SENT        proven: nothing ran; sending again is safe
            │   ├── StoreUnavailable 503 STORE_UNAVAILABLE     no server could be reached, or the guard knows it
            │   ├── StoreClosed     503  STORE_CLOSED
            │   └── StoreFull       503  STORE_FULL            the memory store is at its bound
            └── OutcomeUnknown      503  STORE_OUTCOME_UNKNOWN it may have run, once
                ├── ReplyTimeout    503  STORE_TIMEOUT         no answer came in time
                └── NotReplicated   503  STORE_NOT_REPLICATED  it has run, where too few replicas have it yet

The feature `errors` adds what applications raise (NotFound, Conflict, ...) and renders all of it.

An error has two texts. `message` is a template for whoever called the application over the network. `str(error)`
adds the reason, for whoever runs it: it may name hosts and arguments, and never leaves by a response. Neither
ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Detail = Mapping[str, str]
"""One line of an envelope's `details`: `{field?, issue, code?, pointer?, in?}`."""


class AppError(Exception):
    """Something that went wrong and has a name; subclass it in three lines.

    Class attributes, inherited where not given: `code` (UPPER_SNAKE), `status` (400..599), `message` (template
    over `params`, shown to clients), `retryable` (whether the same request may succeed later), `problem_type` (the URI of
    its problem where a registry has one, instead of the application's own), `cookies` (values of `Set-Cookie` to add).

    Args:
        reason: what happened, for logs; never shown to clients.
        details: lines for the envelope.
        headers: response headers to add, like `{"WWW-Authenticate": "Bearer"}`.
        retry_after: seconds after which trying again makes sense.
        **params: values for the message's template, log fields and translations.
    """

    # Not ClassVar: an error made from a framework's own, or from a remote answer, carries what it was given.
    code: str = "INTERNAL_ERROR"
    status: int = 500
    message: str = "Internal server error"
    retryable: bool = False
    problem_type: str | None = None
    cookies: tuple[str, ...] = ()

    def __init__(
        self,
        reason: str = "",
        /,
        *,
        details: Iterable[Detail] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        **params: Any,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details: list[Detail] = [*details]
        self.headers: dict[str, str] = {**headers} if headers else {}
        self.retry_after = retry_after
        self.params = params

    @property
    def extensions(self) -> Mapping[str, Any]:
        """Members that its RFC 9457 problem has beside those that all have; values as JSON knows them."""
        return {}

    @property
    def status_code(self) -> int:
        """The status, under the name that frameworks and error reporters look for."""
        return self.status

    @property
    def text(self) -> str:
        """The message with its parameters filled in; a parameter that is missing or cannot be shown stays `{name}`."""
        if not self.params:
            return self.message
        try:
            return self.message.format_map(self.params)
        except KeyError:  # seldom, so that the copy below is seldom made
            return self._partly()
        except Exception:  # noqa: BLE001 - a parameter's own __format__ may raise anything
            return self.message

    def _partly(self) -> str:
        try:
            return self.message.format_map(_Params(self.params))
        except Exception:  # noqa: BLE001 - as above
            return self.message

    def __str__(self) -> str:
        return self.reason or self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


E = TypeVar("E", bound=AppError)


def _rebuild(cls: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    """Make a pickled or copied error again without calling a subclass's `__init__`."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class _Params(dict[str, Any]):
    """Parameters of a message, in which what is missing stays visible."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


class InvalidArgument(AppError, ValueError):
    """The calling code passed something that the rule forbids. Carries `argument`, `rule` and `value`."""

    code = "INVALID_ARGUMENT"

    def __init__(self, argument: str, rule: str, value: object, fix: str = "") -> None:
        shown = _shown(value)
        super().__init__(f"{argument} {rule}, got {shown}" + (f"\nTo fix it: {fix}" if fix else ""))
        self.argument = argument
        self.rule = rule
        self.value = value


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a value's own __repr__ may raise anything
        text = f"<a {type(value).__name__} whose repr fails>"
    return text if len(text) <= 200 else text[:200] + "..."


class CrossSlot(InvalidArgument):
    """An operation's keys lie in several slots of a Redis Cluster, where no script can change them at once."""

    code = "CROSS_SLOT"


class MissingExtra(AppError, ImportError):
    """An optional package is not installed; says which extra brings it."""

    code = "MISSING_EXTRA"

    def __init__(self, who: str, package: str, extra: str) -> None:
        super().__init__(f"{who} needs {package}: pip install 'backendkit[{extra}]'")


class Unauthorized(AppError):
    """Nobody has proven who is asking.

    Attributes:
        challenge: becomes the `WWW-Authenticate` unless `headers` holds one: every 401 must say how to prove
            it (RFC 9110 section 15.5.2). Of the class, like `code`.
    """

    code = "UNAUTHORIZED"
    status = 401
    message = "Authentication is required"
    challenge = "Bearer"

    def __init__(
        self,
        reason: str = "",
        /,
        *,
        details: Iterable[Detail] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        **params: Any,
    ) -> None:
        super().__init__(
            reason, details=details, headers=headers, retry_after=retry_after, **params
        )
        if not any(name.lower() == "www-authenticate" for name in self.headers):
            self.headers["WWW-Authenticate"] = self.challenge


class InvalidToken(Unauthorized):
    """The token is not one of ours, or not for here."""

    code = "INVALID_TOKEN"
    message = "The token is not valid"
    challenge = 'Bearer error="invalid_token"'


class TokenExpired(Unauthorized):
    """The token was good, once; a fresh one is needed."""

    code = "TOKEN_EXPIRED"
    message = "The token has expired"
    challenge = 'Bearer error="invalid_token", error_description="expired"'


class Forbidden(AppError):
    """Whoever asks is known, and may not."""

    code = "FORBIDDEN"
    status = 403
    message = "This is not allowed"


class DeadlineExceeded(AppError):
    """The time that the work at hand was given is over."""

    code = "DEADLINE_EXCEEDED"
    status = 504
    message = "The request took too long"
    retryable = True


class RateLimited(AppError):
    """Too many requests; `retry_after` says when there is room again, None that there never will be."""

    code = "RATE_LIMITED"
    status = 429
    message = "Too many requests"
    retryable = True


class ServiceUnavailable(AppError):
    """Something that this application needs does not answer."""

    code = "SERVICE_UNAVAILABLE"
    status = 503
    message = "The service is temporarily unavailable"
    retryable = True


class Overloaded(ServiceUnavailable):
    """This process has as much work as it may take on."""

    code = "OVERLOADED"


class StoreError(ServiceUnavailable):
    """A store could not carry out an operation."""

    code = "STORE_ERROR"


class NotSent(StoreError):
    """Nothing ran, which is proven: the connection failed before, or the server refused."""

    code = "STORE_NOT_SENT"


class StoreUnavailable(NotSent):
    """No server could be reached in time, or the guard around the store knows so and answered in its place."""

    code = "STORE_UNAVAILABLE"


class StoreClosed(NotSent):
    """The store was closed."""

    code = "STORE_CLOSED"


class StoreFull(NotSent):
    """The memory store is at its bound, and nothing in it has expired or may be dropped."""

    code = "STORE_FULL"


class OutcomeUnknown(StoreError):
    """The operation was sent and no answer came: it may have run, once, or not at all."""

    code = "STORE_OUTCOME_UNKNOWN"


class ReplyTimeout(OutcomeUnknown):
    """The operation was sent and no answer came within the timeout."""

    code = "STORE_TIMEOUT"


class NotReplicated(OutcomeUnknown):
    """The operation has run, and fewer replicas than were asked for had it in time: a failover now may lose it."""

    code = "STORE_NOT_REPLICATED"
