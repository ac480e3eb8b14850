"""Guards for Flask: a decorator for views, and `principal()` inside them.

guard = Guard(tokens)

@app.get("/me")
@guard()
def me():
    return {"id": principal().subject}

@app.delete("/posts/<id>")
@guard(has_roles("admin"))
def delete(id): ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import current_app, request

from backendkit.http.tokens import CookiePolicy, Gate
from backendkit.http.visits import WsgiVisit
from backendkit.tokens import NotAuthenticated, Principal, Rule, Tokens, require

View = TypeVar("View", bound=Callable[..., Any])

SCHEME = "bearer"
"""What the document calls the scheme."""

KEY = "backendkit.principal"
"""Our one name in the request's WSGI environment, which ends with it and is nobody else's."""


class Guard:
    """Makes decorators that let a view be called by those whom all rules allow.

    Args:
        tokens: verify.
        cookies: None: bearer tokens only.
    """

    def __init__(self, tokens: Tokens, *, cookies: CookiePolicy | None = None) -> None:
        self._gate = Gate(tokens, cookies=cookies)

    def __call__(self, *rules: Rule, optional: bool = False) -> Callable[[View], View]:
        """Return a decorator; views may be `def` or, as Flask runs them, `async def`.

        Args:
            *rules: all must allow; see `backendkit.tokens.guards`.
            optional: whether requests without credentials pass; bad ones are refused all the same.
        """

        def decorate(view: View) -> View:
            @wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                self._admit(rules, optional=optional)  # here, not on a loop that it would block
                return current_app.ensure_sync(view)(*args, **kwargs)

            return cast("View", guarded)

        return decorate

    def _admit(self, rules: tuple[Rule, ...], *, optional: bool) -> None:
        environ = request.environ
        known = self._gate.admit(WsgiVisit(environ), optional=optional)
        environ[KEY] = known if known is None else require(known, *rules)


def principal() -> Principal:
    """Return who sent the request of a guarded view.

    Raises:
        NotAuthenticated: nobody, or the view has no guard.
    """
    found = optional_principal()
    if found is None:
        raise NotAuthenticated("nobody")
    return found


def optional_principal() -> Principal | None:
    """Return who sent the request of a guarded view, or None."""
    found: Principal | None = request.environ.get(KEY)
    return found


def security_components() -> dict[str, Any]:
    """Return `components` for an OpenAPI document: the scheme, which FastAPI's guard documents alike."""
    scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return {"securitySchemes": {SCHEME: scheme}}


def security(*rules: Rule, optional: bool = False) -> list[dict[str, list[str]]]:
    """Return an operation's `security`: the scheme with the scopes that its rules name; arguments as for a guard."""
    needed: list[dict[str, list[str]]] = [
        {SCHEME: [scope for rule in rules for scope in rule.scopes]}
    ]
    return [{}, *needed] if optional else needed
