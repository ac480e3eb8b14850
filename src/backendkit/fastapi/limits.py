"""Rate limits for FastAPI: a dependency, a decorator, and `AsgiLimits` as middleware.

The dependency and the decorator need `install(app, kit)`: the kit's frame adds their headers to whatever response
comes out, streams and errors included, and settles what was reserved.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

from fastapi import Depends, routing
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp

from backendkit.core import context
from backendkit.core.errors import InvalidArgument
from backendkit.http.limit_asgi import WORLD, AsgiLimits
from backendkit.http.limits import LimitRule, Tier, admit, rule_of, settle
from backendkit.http.messages import KEY, Aftermath, encoded
from backendkit.http.visits import AsgiVisit
from backendkit.ratelimit import Decision, RateLimiter

P = ParamSpec("P")
R = TypeVar("R")


class RateLimit:
    """A dependency that limits: `Depends(RateLimit(limiter, key=by_user))`; for requests and for websockets.

    Args:
        limiter: a limiter, a tier function, or a whole `LimitRule`.
        rule: the fields of `LimitRule`.

    Raises, when called:
        LimitReached: denied, 429.
        LimiterClosed: the store fails and the policy is to refuse, 503.
    """

    def __init__(self, limiter: RateLimiter | Tier | LimitRule, **rule: Any) -> None:
        self.rule = rule_of(limiter, rule)

    async def __call__(self, connection: HTTPConnection) -> Decision | None:
        """Limit a request; returns the decision, or None where the request is not limited."""
        scope = connection.scope
        request: context.Request | None = scope.get(KEY)
        if request is None:
            fix = "call backendkit.fastapi.install(app, kit)."
            raise InvalidArgument("app", "must have a kit installed", scope["path"], fix)
        ruling = await admit(self.rule, AsgiVisit(scope), WORLD)
        if ruling.error is not None:
            raise ruling.error
        statuses = [500]  # what a handler says that never begins to answer

        def start(status: int) -> list[tuple[bytes, bytes]]:
            statuses[0] = status
            return encoded(ruling.headers)

        async def end() -> None:
            await settle(ruling, statuses[0], WORLD)

        aftermath: Aftermath | None = request.aftermath
        if aftermath is None:
            aftermath = request.aftermath = Aftermath()
        aftermath.on_start.append(start)
        if ruling.seat is not None:
            aftermath.on_end.append(end)
        return ruling.decision


def rules_of(app: Starlette, stack: ASGIApp | None) -> list[list[LimitRule]]:
    """Return the rules that requests meet: those of the middleware, and with them each route's."""
    whole: list[LimitRule] = []
    alone: list[list[LimitRule]] = []
    while stack is not None:
        if isinstance(stack, AsgiLimits):
            whole.append(stack.rule)
            alone += [[stack.messages]] if stack.messages is not None else []
        stack = getattr(stack, "app", None)
    chains = [_of_dependant(getattr(route, "dependant", None)) for route in _routes(app)]
    return [whole, *alone, *([*whole, *chain] for chain in chains if chain)]


def _routes(app: Starlette) -> Iterable[Any]:
    """Walk the routes, those of included routers as they are where they are included."""
    walk = getattr(routing, "iter_route_contexts", None)  # FastAPI before 0.140 copies them
    return app.routes if walk is None else walk(app.routes)


def _of_dependant(dependant: Any) -> list[LimitRule]:
    if dependant is None:
        return []
    found = [dependant.call.rule] if isinstance(dependant.call, RateLimit) else []
    return found + [rule for inner in dependant.dependencies for rule in _of_dependant(inner)]


def limited(
    limiter: RateLimiter | Tier | LimitRule, **rule: Any
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limit a path operation, `def` or `async def`: stands below the route's decorator; see `RateLimit`."""
    dependency = RateLimit(limiter, **rule)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        parameters = [
            p.replace(annotation=hints.get(p.name, p.annotation))
            for p in signature.parameters.values()
        ]
        own = inspect.Parameter(
            _NAME,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[Any, Depends(dependency)],
        )

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            kwargs.pop(_NAME, None)
            return function(*args, **kwargs)

        @wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            kwargs.pop(_NAME, None)
            result: Any = function(*args, **kwargs)
            return await result

        wrapped: Any = call_async if inspect.iscoroutinefunction(function) else call
        returns = hints.get("return", signature.return_annotation)
        wrapped.__signature__ = signature.replace(
            parameters=[*parameters, own], return_annotation=returns
        )
        return wrapped  # type: ignore[no-any-return]  # it has the function's own signature, and one more

    return decorate


_NAME = "backendkit_limited"
