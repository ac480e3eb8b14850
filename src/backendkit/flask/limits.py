"""Rate limits for Flask: a decorator, an application's own hook, and `WsgiLimits` as middleware."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import Flask, Response, after_this_request, request

from backendkit.core.flow import step
from backendkit.http.limit_wsgi import WORLD
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
        step(settle(ruling, response.status_code, WORLD))
        return response

    after_this_request(finish)
    return ruling.decision
