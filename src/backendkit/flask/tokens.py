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

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import request

from backendkit.http.tokens import CookiePolicy, credential, protect
from backendkit.tokens import NotAuthenticated, Principal, Rule, Tokens, require

View = TypeVar("View", bound=Callable[..., Any])

KEY = "backendkit.principal"
"""Our one name in the request's WSGI environment, which ends with it and is nobody else's."""


class Guard:
    """Makes decorators that let a view be called by those whom all rules allow.

    Args:
        tokens: verify.
        cookies: None: bearer tokens only.
    """

    def __init__(self, tokens: Tokens, *, cookies: CookiePolicy | None = None) -> None:
        self._tokens = tokens
        self._cookies = cookies

    def __call__(self, *rules: Rule, optional: bool = False) -> Callable[[View], View]:
        """Return a decorator; views may be `def` or `async def`.

        Args:
            *rules: all must allow; see `backendkit.tokens.guards`.
            optional: whether requests without credentials pass; bad ones are refused all the same.
        """

        def decorate(view: View) -> View:
            if inspect.iscoroutinefunction(view):

                @wraps(view)
                async def later(*args: Any, **kwargs: Any) -> Any:
                    self._admit(rules, optional=optional)
                    return await view(*args, **kwargs)

                return cast("View", later)

            @wraps(view)
            def guarded(*args: Any, **kwargs: Any) -> Any:
                self._admit(rules, optional=optional)
                return view(*args, **kwargs)

            return cast("View", guarded)

        return decorate

    def _admit(self, rules: tuple[Rule, ...], *, optional: bool) -> None:
        sent = request.headers.getlist("Cookie") if self._cookies is not None else ()
        found = credential(request.headers.getlist("Authorization"), sent, self._cookies)
        if found is None:
            if optional:
                request.environ[KEY] = None
                return
            raise NotAuthenticated("no credentials")
        known = self._tokens.verify(found.token)
        if self._cookies is not None:
            protect(
                found, request.method, {k.lower(): v for k, v in request.headers.items()},
                place=(request.scheme, request.host), session_id=known.session_id, cookies=sent,
                policy=self._cookies, secret=self._tokens.secret,
            )  # fmt: skip
        request.environ[KEY] = require(known, *rules)


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
