"""The catalogue: every error that clients can be told, in three forms."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.errors import AppError, Catalogue, Conflict, Entry, Errors
from backendkit.errors.catalogue import phrase


class Documented(Conflict):
    """Somebody | else <b>was</b> first.

    Ask `again`, *later*.

    Args:
        seat: not for clients.
    """

    code = "TEST_DOCUMENTED"
    message = "Seat {seat} <i> & {row:>3} are taken"
    retryable = True


class Silent(AppError):  # noqa: D101 - without one on purpose
    code = "TEST_SILENT"
    status = 499


@pytest.fixture
def catalogue() -> Catalogue:
    """All that are defined, with two from here."""
    return Errors().catalogue()


def test_an_entry_has_what_a_reader_needs(catalogue: Catalogue) -> None:
    """The docstring up to its first section; what follows is for those who raise it."""
    assert next(e for e in catalogue.entries if e.code == "TEST_DOCUMENTED") == Entry(
        code="TEST_DOCUMENTED",
        status=409,
        title="Test documented",
        message="Seat {seat} <i> & {row:>3} are taken",
        parameters=("seat", "row"),
        retryable=True,
        description="Somebody | else <b>was</b> first.\n\nAsk `again`, *later*.",
    )
    assert next(e for e in catalogue.entries if e.code == "TEST_SILENT").description == ""


def test_it_lists_every_code_once_by_status(catalogue: Catalogue) -> None:
    """The base comes along: INTERNAL_ERROR is what clients see most of the time."""
    keys = [(entry.status, entry.code) for entry in catalogue.entries]
    assert keys == sorted(set(keys))
    assert (500, "INTERNAL_ERROR") in keys


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "MISSING_EXTRA", "CROSS_SLOT"])
def test_what_is_told_as_an_internal_error_is_not_listed(catalogue: Catalogue, code: str) -> None:
    """No client ever sees it."""
    assert code not in {entry.code for entry in catalogue.entries}


def test_two_applications_of_one_process_list_their_own() -> None:
    """Each names its classes; what it maps to, has told, or takes in later is its own as well, and so is the library's."""
    one, two = Errors(Documented), Errors()
    two.adopt(Silent)

    def own(errors: Errors) -> set[str]:
        return {e.code for e in errors.catalogue().entries if e.code.startswith("TEST_")}

    assert (own(one), own(two)) == ({"TEST_DOCUMENTED"}, {"TEST_SILENT"})
    assert {"NOT_FOUND", "RATE_LIMITED"} <= {e.code for e in one.catalogue().entries}
    two.render(Documented(seat=1, row=2))
    one.map(KeyError, Silent)
    assert own(one) == own(two) == {"TEST_DOCUMENTED", "TEST_SILENT"}
    three = Errors(Documented)
    three.translate({"de": {"errors": {"TEST_DOCUMENTED": "Belegt"}}})
    assert own(three) == {"TEST_DOCUMENTED"}
    three.adopt()
    assert own(three) >= {"TEST_DOCUMENTED", "TEST_SILENT"}


def test_classes_defined_since_are_listed() -> None:
    """An application's modules are often imported after its registry was built."""
    errors = Errors()
    late = type(
        "Late", (AppError,), {"code": "TEST_LATE", "__module__": __name__, "__doc__": "So late."}
    )
    assert "So late." in [entry.description for entry in errors.catalogue().entries]
    late.__qualname__ = "<locals>.Late"


def test_json_is_read_back(catalogue: Catalogue) -> None:
    """Client generators read it."""
    listed = json.loads(catalogue.to_json())["errors"]
    assert (
        tuple(Entry(**{**e, "parameters": tuple(e["parameters"])}) for e in listed)
        == catalogue.entries
    )


def test_markdown_is_a_table_per_status(catalogue: Catalogue) -> None:
    """Whatever docstrings say stays in its cell."""
    text = catalogue.to_markdown(title="Shop *errors*")
    assert text.startswith("# Shop \\*errors\\*\n")
    assert "\n## 413 Content Too Large\n" in text
    assert "\n## 499\n" in text
    assert (
        '| <a id="TEST_DOCUMENTED"></a>`TEST_DOCUMENTED` | Seat {seat} &lt;i> &amp; {row:>3} are taken | yes '
        "| Somebody \\| else &lt;b>was&lt;/b> first. Ask `again`, \\*later\\*. |\n"
    ) in text


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, links and what needs the network."""
        found = dict(attrs)
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src", "srcset") if name in found]

    def handle_endtag(self, tag: str) -> None:
        """Everything that is opened is closed, in order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        self.text += data


def test_the_page_needs_nothing_else(catalogue: Catalogue) -> None:
    """No script, no font, no image, no other file: it opens from a disk, under the strictest policy for scripts."""
    text = catalogue.to_html()
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert all(link.startswith("#") for link in page.links)


def test_each_code_is_an_anchor(catalogue: Catalogue) -> None:
    """So that `https://example.com/errors#{code}` can be the type of a problem."""
    page = Page(catalogue.to_html())
    assert len(set(page.ids)) == len(page.ids)
    assert {entry.code for entry in catalogue.entries} <= set(page.ids)
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_the_page_can_be_used_by_all(catalogue: Catalogue) -> None:
    """A language, a title, landmarks, both colour schemes, a way past the list, one main heading."""
    text = catalogue.to_html(title="Shop <errors>")
    page = Page(text)
    assert '<html lang="en">' in text
    assert "<title>Shop &lt;errors&gt;</title>" in text
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("nav") == 1
    assert "prefers-color-scheme:dark" in text
    assert page.links[0] == "#list"
    assert "Seat seat <i> & {row:>3} are taken" in page.text
    assert "<code>again</code>" in text
    assert "Somebody | else <b>was</b> first." in page.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(catalogue: Catalogue, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    text = catalogue.to_html()
    light, dark = re.findall(r":root\{(.*?)\}", text, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+):(#\w+)", light if scheme == "light" else dark))
    pairs = [("ink", "paper"), ("ink", "card"), ("soft", "paper"), ("soft", "card"), ("link", "paper"),
             ("link", "card"), ("ink", "code"), ("client", "client-bg"), ("server", "server-bg"),
             ("again", "again-bg")]  # fmt: skip
    for front, back in pairs:
        bright, dim = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (front, back)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_status_without_a_name_has_none() -> None:
    """499 is nginx's; 422 has a newer name than some Pythons know."""
    assert (phrase(499), phrase(422), phrase(404)) == ("", "Unprocessable Content", "Not Found")


@given(
    st.lists(
        st.builds(
            Entry,
            code=st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True),
            status=st.integers(400, 599),
            title=st.text(),
            message=st.text(),
            parameters=st.just(()),
            retryable=st.booleans(),
            description=st.text(),
        ),
        max_size=4,
        unique_by=lambda entry: entry.code,
    ),
    st.text(),
)
def test_any_texts_make_a_sound_page(entries: list[Entry], title: str) -> None:
    """Nothing that a docstring or a message says becomes markup."""
    catalogue = Catalogue(tuple(sorted(entries, key=lambda e: (e.status, e.code))))
    page = Page(catalogue.to_html(title=title))
    assert not page.open
    assert page.tags.count("article") == len(entries)
    assert catalogue.to_markdown(title=title).count("\n| <a id=") == len(entries)
    listed = json.loads(catalogue.to_json())["errors"]
    assert [entry["message"] for entry in listed] == [entry.message for entry in catalogue.entries]


def test_a_message_that_each_error_makes_is_told_by_its_title() -> None:
    """A property made the catalogue raise, and took the headers where parameters travel."""

    class Worded(Conflict):
        """Has a message of its own for each."""

        code = "WORDED_THING"

        @property
        def message(self) -> str:  # type: ignore[override] # as applications do
            return f"no {self.reason}"

    errors = Errors(Worded, params=True)
    entry = next(e for e in errors.catalogue().entries if e.code == "WORDED_THING")
    assert (entry.message, entry.parameters) == ("Worded thing", ())
    told = errors.render(Worded("tea", headers={"X-Good": "yes"}))
    assert ("X-Good", "yes") in told.headers
    assert b"no tea" in told.body
