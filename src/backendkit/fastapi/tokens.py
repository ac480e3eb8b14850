"""Guards for FastAPI: one flat asynchronous dependency, which OpenAPI shows as a bearer scheme with its scopes.

current = Guard(tokens)
editors = Guard(tokens, has_roles("editor"))

@app.get("/me")
async def me(user: Annotated[Principal, Security(current)]): ...

@app.get("/posts")
async def posts(user: Annotated[Principal, Security(current, scopes=["posts:read"])]): ...
"""

from __future__ import annotations

from fastapi.openapi.models import HTTPBearer
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from backendkit.http.tokens import CookiePolicy, Gate
from backendkit.http.visits import AsgiVisit
from backendkit.tokens import InsufficientScope, Principal, Rule, Tokens, require

SCHEME = "bearer"
"""What the document calls the scheme."""


class Guard(SecurityBase):
    """A dependency that gives the `Principal` of a request, or refuses it.

    Args:
        tokens: verify.
        *rules: all must allow; see `backendkit.tokens.guards`.
        cookies: None: bearer tokens only.
        optional: whether requests without credentials pass, with None; bad ones are refused all the same.

    `Security(guard, scopes=[...])` asks for scopes as well, and documents them.
    """

    def __init__(
        self,
        tokens: Tokens,
        *rules: Rule,
        cookies: CookiePolicy | None = None,
        optional: bool = False,
    ) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = SCHEME
        self.auto_error = not optional
        self._gate = Gate(tokens, cookies=cookies)
        self._rules = rules

    async def __call__(self, connection: HTTPConnection, asked: SecurityScopes) -> Principal | None:
        """Return who sent a request; raises the errors of `backendkit.tokens`."""
        visit = AsgiVisit(connection.scope)
        principal = await self._gate.admit_async(visit, optional=not self.auto_error)
        if principal is None:
            return None
        if asked.scopes and not principal.scopes.issuperset(asked.scopes):
            raise InsufficientScope(tuple(asked.scopes))
        return require(principal, *self._rules) if self._rules else principal
