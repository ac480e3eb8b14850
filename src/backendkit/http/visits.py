"""A request, or an attempt to connect, read off an ASGI scope or a WSGI environ: what limits, guards and flows look at."""

from __future__ import annotations

from collections.abc import Sequence

from backendkit.http.messages import Scope
from backendkit.http.wsgi import Environ

COUNTED = "backendkit.limited"
"""Where scope and environ hold the limiters that have counted the request, each once."""


class AsgiVisit:
    """A connection, read off its scope."""

    __slots__ = ("native",)

    def __init__(self, scope: Scope) -> None:
        self.native = scope

    @property
    def method(self) -> str:
        """The method; `WEBSOCKET` for a socket."""
        return str(self.native.get("method", "WEBSOCKET"))

    @property
    def path(self) -> str:
        """The path."""
        return str(self.native["path"])

    @property
    def template(self) -> str:
        """The route's template, once the framework has put the route into the scope."""
        route = self.native.get("route")
        found = getattr(route, "path_format", None) or getattr(route, "path", None)
        return found if isinstance(found, str) else self.path

    @property
    def scheme(self) -> str:
        """`http` or `https`, for sockets as well: pages name their origin so."""
        scheme = str(self.native.get("scheme", "http"))
        return {"ws": "http", "wss": "https"}.get(scheme, scheme)

    @property
    def peer(self) -> str | None:
        """The address at the other end."""
        client = self.native.get("client")
        return client[0] if client else None

    @property
    def counted(self) -> set[int]:
        """Which limiters have counted it."""
        found: set[int] | None = self.native.get(COUNTED)
        if found is None:
            found = set[int]()
            self.native[COUNTED] = found
        return found

    def lines(self, name: str) -> Sequence[str]:
        """Return the values of a header."""
        key = name.encode("latin-1")
        return [v.decode("latin-1") for k, v in self.native["headers"] if k == key]


class WsgiVisit:
    """A request, read off its environ."""

    __slots__ = ("native", "template_hint")

    def __init__(self, environ: Environ, template: str | None = None) -> None:
        self.native = environ
        self.template_hint = template

    @property
    def method(self) -> str:
        """The method."""
        return str(self.native["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        """The path."""
        return str(self.native.get("SCRIPT_NAME", "")) + str(self.native.get("PATH_INFO", ""))

    @property
    def template(self) -> str:
        """The route's template where the framework has said it, else the path."""
        return self.template_hint or self.path

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return str(self.native["wsgi.url_scheme"])

    @property
    def peer(self) -> str | None:
        """The address at the other end."""
        return self.native.get("REMOTE_ADDR") or None

    @property
    def counted(self) -> set[int]:
        """Which limiters have counted it."""
        found: set[int] | None = self.native.get(COUNTED)
        if found is None:
            found = set[int]()
            self.native[COUNTED] = found
        return found

    def lines(self, name: str) -> Sequence[str]:
        """Return the values of a header, which servers have joined by commas."""
        key = name.upper().replace("-", "_")
        # The body's own two stand without the prefix (PEP 3333).
        value = self.native.get(key if key in _UNPREFIXED else "HTTP_" + key)
        return [value] if value else []


_UNPREFIXED = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})
