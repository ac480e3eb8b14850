"""Who may do what: rules over a principal, without any framework; call them in a service layer, or let an adapter.

    may_edit = any_of(has_roles("editor"), is_owner(lambda principal, post: post.author))
    require(principal, may_edit, post)        # returns the principal, or raises

A rule takes a principal and, where it needs one, the thing at stake, and tells yes or no. `require` makes the errors:
401 where nobody is logged in or the login is too old, 403 where somebody is and may not (RFC 6750, RFC 9470).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import AppError, InvalidArgument
from backendkit.tokens.errors import AccessDenied, InsufficientScope, NotAuthenticated, StaleLogin
from backendkit.tokens.principal import Principal

Test = Callable[[Principal, Any], bool]
"""Tells whether a principal may; the second argument is the thing at stake, or None."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; combine rules with `&` and `|`.

    Attributes:
        test: yes or no.
        refusal: makes the error for a no.
        scopes: the scopes that it names, for OpenAPI and challenges.
    """

    test: Test
    refusal: Callable[[], AppError]
    scopes: tuple[str, ...] = ()

    def __and__(self, other: Rule) -> Rule:
        return all_of(self, other)

    def __or__(self, other: Rule) -> Rule:
        return any_of(self, other)


def require(principal: Principal | None, *rules: Rule, thing: Any = None) -> Principal:
    """Return the principal if every rule allows it.

    Args:
        principal: who asks; None: nobody is logged in.
        *rules: all must allow; none: being logged in is enough.
        thing: what is at stake, for rules that look at it.

    Raises:
        NotAuthenticated: 401: nobody.
        StaleLogin: 401: the login is too old.
        InsufficientScope, AccessDenied: 403.
    """
    if principal is None:
        raise NotAuthenticated("nobody")
    for rule in rules:
        if not rule.test(principal, thing):
            raise rule.refusal()
    return principal


def all_of(*rules: Rule) -> Rule:
    """Allow what every rule allows; the first that does not makes the error."""
    scopes = tuple(scope for rule in rules for scope in rule.scopes)
    if not rules:
        raise InvalidArgument("rules", "must not be empty", 0)

    def test(principal: Principal, thing: Any) -> bool:
        for rule in rules:
            if not rule.test(principal, thing):
                raise rule.refusal()
        return True

    return Rule(test, _denied, scopes)


def any_of(*rules: Rule) -> Rule:
    """Allow what one of the rules allows; the last makes the error."""
    if not rules:
        raise InvalidArgument("rules", "must not be empty", 0)
    scopes = tuple(scope for rule in rules for scope in rule.scopes)
    return Rule(
        lambda p, thing: any(_allows(rule, p, thing) for rule in rules), rules[-1].refusal, scopes
    )


def has_roles(*roles: str) -> Rule:
    """Allow who has all of these roles; combine with `any_of` for one of several."""
    wanted = _names("roles", roles)
    return Rule(lambda principal, _: wanted <= principal.roles, _denied)


def has_scopes(*scopes: str) -> Rule:
    """Allow a token that has all of these scopes; the refusal names them."""
    wanted = _names("scopes", scopes)
    return Rule(lambda p, _: wanted <= p.scopes, lambda: InsufficientScope(scopes), scopes)


def is_owner(owner: Callable[[Principal, Any], object]) -> Rule:
    """Allow whose subject the owner of the thing is: `is_owner(lambda principal, post: post.author)`.

    A thing without an owner (None) belongs to nobody.
    """

    def test(principal: Principal, thing: Any) -> bool:
        found = owner(principal, thing)
        return found is not None and str(found) == principal.subject

    return Rule(test, _denied)


def owner_or_roles(owner: Callable[[Principal, Any], object], *roles: str) -> Rule:
    """Allow the owner of the thing, or who has all of these roles: "self or admin"."""
    return any_of(is_owner(owner), has_roles(*roles))


def where(test: Test) -> Rule:
    """Allow what a predicate over principal and thing allows."""
    return Rule(test, _denied)


def fresh(within: Duration, *, clock: Clock | None = None) -> Rule:
    """Allow who logged in, not merely refreshed, within this time; the challenge names it (RFC 9470)."""
    within_us = checks.duration_us("within", within, least_us=SECOND_US)
    source = clock or SystemClock()

    def test(principal: Principal, _: Any) -> bool:
        login = principal.auth_time
        return login is not None and source.wall_us() - login * SECOND_US <= within_us

    return Rule(test, lambda: StaleLogin(within_us // SECOND_US))


class Permissions:
    """Which permissions roles give, roles of roles included; compiled to sets once.

    Args:
        grants: `{role: permissions}`; a permission `*` gives all.
        includes: `{role: roles whose permissions it has as well}`.

    Raises:
        InvalidArgument: roles include each other in a circle, or one that is not there.
    """

    __slots__ = ("_by_role",)

    def __init__(
        self,
        grants: Mapping[str, Iterable[str]],
        *,
        includes: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        given = {role: frozenset(permissions) for role, permissions in grants.items()}
        below = {role: tuple(roles) for role, roles in (includes or {}).items()}
        for role in {*below, *(one for roles in below.values() for one in roles)}:
            given.setdefault(role, frozenset())
        self._by_role = {role: _closed(role, given, below, ()) for role in given}

    def of(self, principal: Principal) -> frozenset[str]:
        """Return all permissions of a principal's roles; unknown roles give none."""
        found = [self._by_role.get(role, frozenset[str]()) for role in principal.roles]
        return frozenset[str]().union(*found)

    def has(self, *permissions: str) -> Rule:
        """Allow whose roles give all of these permissions."""
        wanted = _names("permissions", permissions)

        def test(principal: Principal, _: Any) -> bool:
            held = self.of(principal)
            return wanted <= held or "*" in held

        return Rule(test, _denied)


def _closed(
    role: str,
    grants: Mapping[str, frozenset[str]],
    includes: Mapping[str, tuple[str, ...]],
    path: tuple[str, ...],
) -> frozenset[str]:
    if role in path:
        raise InvalidArgument(
            "includes", "must not go round in a circle", " > ".join((*path, role))
        )
    below = [_closed(one, grants, includes, (*path, role)) for one in includes.get(role, ())]
    return grants[role].union(*below)


def _allows(rule: Rule, principal: Principal, thing: Any) -> bool:
    try:
        return rule.test(principal, thing)
    except (AccessDenied, StaleLogin):  # of an `all_of` inside an `any_of`
        return False


def _names(argument: str, names: tuple[str, ...]) -> frozenset[str]:
    if not names:
        raise InvalidArgument(
            argument, "must not be empty: a rule that asks for nothing allows all", names
        )
    return frozenset(names)


def _denied() -> AppError:
    return AccessDenied("rule")
