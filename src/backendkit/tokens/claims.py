"""What a token's claims must be (RFC 7519 section 4, RFC 9068 section 2.2); pure, and the same for every issuer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

from backendkit.core.errors import InvalidArgument
from backendkit.tokens.errors import InvalidToken, TokenExpired

LARGEST_DATE = 2**53
"""Seconds; a NumericDate beyond is a mistake or an attack."""

LEEWAY_S = 30
"""How far another server's clock may be ahead in `nbf` and `iat`; `exp` has none."""

DEEPEST = 64
"""Lists and objects within each other in a claim: what walks through them calls itself, and so do its users."""

ACCESS_CLAIMS = ("iss", "sub", "aud", "exp", "iat", "jti")
"""What RFC 9068 section 2.2 wants of an access token, `client_id` apart: we are both server and client."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What tokens of one issuer must say.

    Attributes:
        issuer: equal to `iss`, character for character; None: any or none.
        audience: `aud` must hold one of these; empty: `aud` is not looked at.
        required: claims that must be there; those with a known type must have it anyway.
    """

    issuer: str | None
    audience: frozenset[str]
    required: frozenset[str]

    def __post_init__(self) -> None:
        if self.issuer == "" or "" in self.audience:
            raise InvalidArgument("issuer", "and audience must not be empty", self.issuer)

    def check(self, claims: Mapping[str, Any], now_s: float) -> tuple[float, float]:
        """Return until when (`exp`, infinity without) and from when (the later of `nbf` and `iat`) a token holds.

        Raises:
            TokenExpired: `exp` has come.
            InvalidToken: anything else.
        """
        self._check_names(claims)
        begins = _dates(claims, now_s)
        expires = claims.get("exp")
        if expires is None:
            return _NEVER, begins
        if expires <= now_s:
            raise TokenExpired("exp")
        return expires, begins

    def _check_names(self, claims: Mapping[str, Any]) -> None:
        if not claims.keys() >= self.required:
            raise InvalidToken("missing claim")
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise InvalidToken("iss")
        if self.audience:
            self._check_audience(claims.get("aud"))
        # Not `isinstance`, and not a call for each: this loop is a tenth of a verification.
        for name, value in claims.items():
            kind = _KINDS.get(name)
            if kind is not None and (
                type(value) is not kind
                or (kind is str and name in _NAMES and not 0 < len(value) <= LONGEST_NAME)
                or (kind is int and not 0 <= value <= LARGEST_DATE)
                or (kind is list and not _TEXT.issuperset(map(type, value)))
            ):
                raise InvalidToken(name)

    def _check_audience(self, aud: object) -> None:
        if type(aud) is str:
            if aud in self.audience:
                return
        elif type(aud) is list:
            listed = cast("list[object]", aud)
            if all(type(one) is str for one in listed) and not self.audience.isdisjoint(
                cast("list[str]", listed)
            ):
                return
        raise InvalidToken("aud")


def _dates(claims: Mapping[str, Any], now_s: float) -> float:
    begins = 0.0
    for name in ("exp", "iat", "nbf"):
        date = claims.get(name)
        if date is None:
            if name in claims:
                raise InvalidToken(name)
            continue
        kind = type(date)  # pyright: ignore[reportUnknownVariableType] - the type of an Any
        # Not `isinstance`: a bool is an int to Python, and no date to RFC 7519. NaN and infinity fail the bound.
        if (kind is not int and kind is not float) or not -LARGEST_DATE <= date <= LARGEST_DATE:
            raise InvalidToken(name)
        if name != "exp" and date > begins:
            begins = date
    if begins > now_s + LEEWAY_S:
        raise InvalidToken("not yet")
    return begins


def frozen(claims: dict[str, Any]) -> Mapping[str, Any]:
    """Return claims that nobody can change: lists become tuples, objects read-only. Changes `claims` itself.

    Raises:
        InvalidToken: nested deeper than 64 times.
    """
    for name, value in claims.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - the type of an Any
        if kind is list:  # of texts, as a rule: a call for each would show
            claims[name] = tuple([one if type(one) is str else _freeze(one) for one in value])
        elif kind is dict:
            claims[name] = _freeze(value)
    return MappingProxyType(claims)


def _freeze(value: Any, left: int = 0) -> Any:
    if not isinstance(value, (list, dict)):
        return value
    left = (left or DEEPEST) - 1
    if not left:
        raise InvalidToken("nesting")
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType] - narrowed from Any
        return tuple(_freeze(item, left) for item in items)
    members: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - narrowed from Any
    return MappingProxyType({name: _freeze(member, left) for name, member in members.items()})


def thawed(value: Any) -> Any:
    """Return frozen claims as the lists and dicts that JSON encoders take."""
    if isinstance(value, tuple):
        items: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType] - narrowed from Any
        return [thawed(item) for item in items]
    if isinstance(value, Mapping):
        members: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType] - narrowed from Any
        return {name: thawed(member) for name, member in members.items()}
    return value


def audiences(audience: str | Iterable[str] | None) -> frozenset[str]:
    """Return an option given as one name, several or none, as a set."""
    if audience is None:
        return frozenset()
    return frozenset({audience} if isinstance(audience, str) else audience)


LONGEST_NAME = 1_024
"""Characters of a subject, a token's id, a session's id."""

_NAMES = frozenset({"sub", "jti", "sid"})
_LISTS = frozenset({"roles", "amr"})
_COUNTS = frozenset({"auth_time", "ep"})
_TEXT = frozenset({str})
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("iss", "scope", "acr", *_NAMES), str),
    **dict.fromkeys(_LISTS, list),
    **dict.fromkeys(_COUNTS, int),
}
_NEVER = float("inf")
