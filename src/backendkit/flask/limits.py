"""Rate limits for Flask: a decorator, an application's own hook, and `WsgiLimits` as middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Flask, Response, after_this_request, request

from backendkit.core.flow import step
from backendkit.http.limit_wsgi import WORLD, WsgiLimits
from backendkit.http.limits import LimitRule, Tier, admit, rule_of, settle
from backendkit.http.visits import WsgiVisit
from backendkit.ratelimit import Decision, RateLimiter

P = ParamSpec("P")
R = TypeVar("R")


def limited(
    limiter: RateLimiter | Tier | LimitRule, **rule: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limit a view: `@limited(limiter, key=by_user)` below the route's decorator.

    Args:
        limiter: a limiter, a tier function, or a whole `LimitRule`.
        rule: the fields of `LimitRule`.

    Raises, when the view is called:
        LimitReached: denied, 429.
        LimiterClosed: the store fails and the policy is to refuse, 503.
    """
    made = rule_of(limiter, rule)

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            limit(made)
            return view(*args, **kwargs)

        setattr(call, _RULE, made)
        return call

    return decorate


def limit_app(app: Flask, limiter: RateLimiter | Tier | LimitRule, **rule: Any) -> None:
    """Limit every request of an application before its view is looked up, so unknown paths as well.

    Arguments as for `limited`.
    """
    made = rule_of(limiter, rule)

    def before() -> None:
        limit(made)

    app.before_request(before)
    app.extensions.setdefault(_WHOLE, []).append(made)


def rules_of(app: Flask, *layers: Any) -> list[list[LimitRule]]:
    """Return the rules that requests meet: those of the whole application and of WSGI layers, and with them each view's."""
    whole: list[LimitRule] = list(app.extensions.get(_WHOLE, ()))
    for layer in layers:
        wsgi = layer
        while wsgi is not None:
            if isinstance(wsgi, WsgiLimits):
                whole.append(wsgi.rule)
            wsgi = getattr(wsgi, "app", None)
    chains = [list(_of_view(view)) for view in app.view_functions.values()]
    return [whole, *([*whole, *chain] for chain in chains if chain)]


def _of_view(view: Any) -> Iterator[LimitRule]:
    seen: LimitRule | None = None
    while view is not None:
        rule = getattr(view, _RULE, None)
        if rule is not None and rule is not seen:  # `wraps` copies it to what stands around
            seen = rule
            yield rule
        view = getattr(view, "__wrapped__", None)


_RULE = "backendkit_limit"
"""Where a view that is limited says by what."""
_WHOLE = "backendkit.limits"
"""Where an application says what limits all of it."""


def limit(rule: LimitRule) -> Decision | None:
    """Limit the request at hand; returns the decision, or None where the request is not limited.

    Raises:
        LimitReached: denied, 429.
        LimiterClosed: the store fails and the policy is to refuse, 503.
    """
    template = request.url_rule.rule if request.url_rule is not None else None
    ruling = step(admit(rule, WsgiVisit(request.environ, template), WORLD))
    if ruling.error is not None:
        raise ruling.error

    def finish(response: Response) -> Response:
        response.headers.extend(ruling.headers)
        if ruling.held:  # for as long as the body is on its way
            response.call_on_close(lambda: step(settle(ruling, response.status_code, WORLD)))
        else:
            step(settle(ruling, response.status_code, WORLD))
        return response

    after_this_request(finish)
    return ruling.decision
