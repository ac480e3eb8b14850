"""Guards for FastAPI: one flat asynchronous dependency, which OpenAPI shows as a bearer scheme with its scopes.

current = Guard(tokens)
editors = Guard(tokens, has_roles("editor"))

@app.get("/me")
async def me(user: Annotated[Principal, Security(current)]): ...
"""

from __future__ import annotations

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from backendkit.http.tokens import CookiePolicy, credential, protect
from backendkit.tokens import NotAuthenticated, Principal, Rule, Tokens, require


class Guard(SecurityBase):
    """A dependency that gives the `Principal` of a request, or refuses it.

    Args:
        tokens: verify.
        *rules: all must allow; see `backendkit.tokens.guards`.
        cookies: None: bearer tokens only.
        optional: whether requests without credentials pass, with None; bad ones are refused all the same.
    """

    def __init__(
        self,
        tokens: Tokens,
        *rules: Rule,
        cookies: CookiePolicy | None = None,
        optional: bool = False,
    ) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = "bearer"
        self.auto_error = True
        self._tokens = tokens
        self._rules = rules
        self._cookies = cookies
        self._optional = optional

    async def __call__(self, request: Request) -> Principal | None:
        """Return who sent a request; raises the errors of `backendkit.tokens`."""
        headers = request.headers
        sent = headers.getlist("cookie") if self._cookies is not None else ()
        found = credential(headers.getlist("authorization"), sent, self._cookies)
        if found is None:
            if self._optional:
                return None
            raise NotAuthenticated("no credentials")
        principal = await self._tokens.aio.verify(found.token)
        if self._cookies is not None:
            protect(
                found, request.method, headers, place=(request.url.scheme, request.url.netloc),
                session_id=principal.session_id, cookies=sent, policy=self._cookies, secret=self._tokens.secret,
            )  # fmt: skip
        return require(principal, *self._rules)
