"""Parts of templates: rendered once, apart by their arguments, dropped by them and by tags, escaped as they were."""

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from jinja2 import TemplateSyntaxError

from backendkit.cache import Cache
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.flask import Fragments
from backendkit.stores import MemoryStore

PAGE = """
<p>{{ name }}</p>{% cached "hello", name, ttl=60, tags=["people"] %}<b>{{ render(name) }}</b>{% endcached %}
"""


class Site:
    """An application whose template counts how often it is rendered."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cache = Cache(MemoryStore(clock=self.clock))
        self.app = flask.Flask("site")
        self.fragments = Fragments(self.app, self.cache)
        self.rendered: list[object] = []

    def show(self, name: object, page: str = PAGE) -> str:
        """Render the page."""

        def render(value: object) -> object:
            self.rendered.append(value)
            return value

        with self.app.app_context():
            return flask.render_template_string(page, name=name, render=render).strip()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site."""
    return Site()  # type: ignore[return-value]  # nothing to close


def test_a_fragment_is_rendered_once(site: Site) -> None:
    """For as long as it says, and the rest each time."""
    assert site.show("ada") == site.show("ada") == "<p>ada</p><b>ada</b>"
    assert site.rendered == ["ada"]
    site.clock.advance(60 * SECOND_US)
    site.show("ada")
    assert site.rendered == ["ada", "ada"]


def test_arguments_keep_fragments_apart(site: Site) -> None:
    """By value and by type."""
    pages = [site.show(name) for name in ("1", 1, True, "1")]
    assert pages[0] == pages[1] == pages[3]
    assert site.rendered == ["1", 1, True]


def test_a_fragment_is_dropped_by_its_arguments_or_its_tag(site: Site) -> None:
    """And no other is."""
    site.show("ada")
    site.show("bob")
    site.fragments.invalidate("hello", "ada")
    site.show("ada")
    site.show("bob")
    assert site.rendered == ["ada", "bob", "ada"]
    site.cache.invalidate_tags("people")
    site.show("bob")
    assert site.rendered[3:] == ["bob"]


def test_text_is_escaped_once(site: Site) -> None:
    """The first time and from the cache."""
    first = site.show("<i>")
    assert first == site.show("<i>") == "<p>&lt;i&gt;</p><b>&lt;i&gt;</b>"


def test_an_argument_that_can_change_is_refused(site: Site) -> None:
    """As in any key."""
    with pytest.raises(InvalidArgument):
        site.show(["a"])


def test_one_application_has_one(site: Site) -> None:
    """Keys and caches would else be anybody's guess."""
    with pytest.raises(InvalidArgument, match="app"):
        Fragments(site.app, site.cache)


@pytest.mark.parametrize("page", ['{% cached "a" 1 %}{% endcached %}', '{% cached "a" %}'])
def test_a_wrong_tag_is_told(site: Site, page: str) -> None:
    """By Jinja's own error."""
    with pytest.raises(TemplateSyntaxError):
        site.show("ada", page)


def test_a_loop_caches_each_of_its_turns(site: Site) -> None:
    """The variables of the place count."""
    page: Any = "{% for n in name %}{% cached 'n', n %}{{ render(n) }}{% endcached %}{% endfor %}"
    assert site.show((1, 2, 1), page) == site.show((2, 1, 2), page).replace("212", "121") == "121"
    assert site.rendered == [1, 2]


@pytest.mark.parametrize(
    ("tag", "told"),
    [("cached", "needs a name"), ("cached ttl=5", "needs a name"), ('cached "a", tll=5', "no option 'tll'")],
)  # fmt: skip
def test_a_tag_that_cannot_be_meant_is_no_template(site: Site, tag: str, told: str) -> None:
    """It says so when the template is read, with its line, not when somebody asks for the page."""
    with pytest.raises(TemplateSyntaxError, match=told):
        site.app.jinja_env.from_string("{% " + tag + " %}x{% endcached %}")
