"""Parts of a template that are rendered once for all who see them.

fragments = Fragments(app, kit.cache())

{% cached "sidebar", user.id, ttl=60, tags=["catalogue"] %}
  ... what is dear to render ...
{% endcached %}

fragments.invalidate("sidebar", user.id)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from flask import Flask
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument

if TYPE_CHECKING:
    from backendkit.cache import Cache, KeyTemplate


class Fragments:
    """The cached parts of an application's templates. One per application.

    Args:
        app: whose templates get the tag `cached`.
        cache: where their text is kept, under `fragment:` and what the tag names.

    A fragment is the same for all for whom its arguments are the same: name whatever it depends on. Its first argument is
    its name; the others are what a key may hold, see `KeyTemplate`. `ttl` and `tags` are as for `Cache.get_or_load`.

    Raises:
        InvalidArgument: the application has another one.
    """

    def __init__(self, app: Flask, cache: Cache) -> None:
        from backendkit.cache import KeyTemplate  # noqa: PLC0415 - an application without a cache loads none

        if _KEY in app.extensions:
            raise InvalidArgument("app", "must not have fragments already", app)
        self._cache = cache
        self._template: KeyTemplate = KeyTemplate("fragment:{name}:{of}", _named)
        app.extensions[_KEY] = self
        app.jinja_env.add_extension(_Cached)
        app.jinja_env.extend(**{_KEY: self})

    def key(self, name: str, *of: object) -> str:
        """Return the key of a fragment."""
        return self._template.key((name, of), {})

    def invalidate(self, name: str, *of: object) -> None:
        """Remove a fragment, for these arguments; raises as `Cache.invalidate`."""
        self._cache.invalidate(self.key(name, *of))

    def render(
        self,
        render: Callable[[], str],
        name: str,
        *of: object,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
    ) -> str:
        """Return a fragment's text; what `render` returns, where there is none."""
        key = self.key(name, *of)
        return str(self._cache.get_or_load(key, lambda: str(render()), ttl=ttl, tags=tags))


class _Cached(Extension):
    tags: ClassVar[set[str]] = {"cached"}  # type: ignore[misc]  # as Jinja's manual does

    def parse(self, parser: Parser) -> nodes.Node:
        """Turn the tag into a call whose caller renders what it holds."""
        line = next(parser.stream).lineno
        given: list[nodes.Expr] = []
        options: list[nodes.Keyword] = []
        while parser.stream.current.type != "block_end":
            if given or options:
                parser.stream.expect("comma")
            if parser.stream.look().type == "assign":
                name = parser.stream.expect("name").value
                if name not in ("ttl", "tags"):
                    parser.fail(f"cached has no option {name!r}, only ttl and tags", line)
                parser.stream.skip()
                options.append(nodes.Keyword(name, parser.parse_expression()))
            else:
                given.append(parser.parse_expression())
        if not given:
            parser.fail("cached needs a name, like {% cached 'sidebar' %}", line)
        body = parser.parse_statements(("name:endcached",), drop_needle=True)
        call = self.call_method("_render", given, options)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, *args: Any, caller: Callable[[], str], **options: Any) -> str:
        fragments: Fragments = getattr(self.environment, _KEY)
        return fragments.render(caller, *args, **options)


def _named(name: str, of: tuple[object, ...]) -> None:
    """Stand for the arguments of a fragment."""


_KEY = "backendkit_fragments"
