"""Message templates: what they name, and reading them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.errors.templates import faults, fields, fill, read_back


def test_fields_are_named_once_in_order() -> None:
    """They are what the catalogue lists and what may travel."""
    assert fields("{b} of {a}, {b}!") == ("b", "a")


@pytest.mark.parametrize("template", ["{", "a }", "{}", "{0}", "{a.b}", "{a[0]}", "100%", ""])
def test_what_is_no_plain_name_is_no_field(template: str) -> None:
    """An attribute of a parameter is not the parameter."""
    assert fields(template) == ()


def test_filling_what_cannot_be_filled_gives_none() -> None:
    """So that a translation can fall back instead of showing braces."""
    assert fill("Seat {seat}", {"seat": "12A"}) == "Seat 12A"
    assert fill("Seat {seat}", {}) is None
    assert fill("{n:d}", {"n": "x"}) is None


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{seat.owner}", "plain name"),
        ("{seat[0]}", "plain name"),
        ("{}", "plain name"),
        ("{other}", "does not have"),
        ("{seat!r}", "conversion"),
        ("{seat:>99999}", "width"),
        ("{seat:{seat}}", "width"),
        ("{seat", "no template"),
    ],
)
def test_a_foreign_template_may_not_do_much(template: str, fault: str) -> None:
    """A file of texts is no place for code."""
    assert any(fault in found for found in faults(template, frozenset({"seat"})))


@pytest.mark.parametrize("template", ["Seat {seat}", "no seat", "{seat:>10}", "{{}} {seat}"])
def test_a_sound_template_has_no_faults(template: str) -> None:
    """Formats of a sane width are how numbers are written."""
    assert list(faults(template, frozenset({"seat"}))) == []


@pytest.mark.parametrize(
    ("template", "text", "params"),
    [
        ("Seat {seat} is taken", "Seat 12A is taken", {"seat": "12A"}),
        ("{a}", "", {"a": ""}),
        ("{a}: {b}", "x: y", {"a": "x", "b": "y"}),
        ("{{{a}}}", "{x}", {"a": "x"}),
        ("{a} is {a}", "x is x", {"a": "x"}),
        ("Not found", "Not found", {}),
        ("odd {", "odd {", {}),
    ],
)
def test_a_text_is_read_back(template: str, text: str, params: dict[str, str]) -> None:
    """This is how parameters travel in a body that has no room for them."""
    assert read_back(template, text) == params


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a}: {b}", "x: y: z"),  # two ways
        ("{a}{b}", "xy"),
        ("{a} is {a}", "x is y"),
        ("Seat {seat}", "Platz 12A"),
        ("Seat {seat} is taken", "Seat 12A"),
        ("Seat {seat} is taken", "Seat  is takes"),
        ("{a}, {b}, {c}", "x; y"),
        ("ab{a}ba", "aba"),  # the literals would overlap
        ("{a:d}", "1"),
        ("{a!r}", "1"),
        ("{a.b}", "1"),
        ("Not found", "Not here"),
        ("odd {", "odd"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_not_read(template: str, text: str) -> None:
    """A guess would be a wrong parameter."""
    assert read_back(template, text) is None


texts = st.text(alphabet="ab :{}é\n", max_size=6)


@given(st.lists(texts, min_size=2, max_size=5), st.lists(texts, min_size=4, max_size=4))
def test_reading_back_never_invents(literals: list[str], values: list[str]) -> None:
    """What is read gives the same text, and is the truth wherever there is one truth."""
    names = ["p", "q", "r", "s"][: len(literals) - 1]
    escaped = [literal.replace("{", "{{").replace("}", "}}") for literal in literals]
    template = escaped[0] + "".join(
        f"{{{n}}}{rest}" for n, rest in zip(names, escaped[1:], strict=True)
    )
    params = dict(zip(names, values, strict=False))
    text = fill(template, params)
    assert text is not None
    found = read_back(template, text)
    readings = _readings(literals, text)
    if text == template:
        assert found == {}
    elif len(readings) == 1:
        assert found == params
    else:
        assert found is None


def _readings(literals: list[str], text: str) -> list[tuple[str, ...]]:
    """All ways to read a text, by trying them."""
    first, *rest = literals
    if not text.startswith(first):
        return []
    text = text[len(first) :]
    if not rest:
        return [()] if not text else []
    return [
        (text[:end], *more) for end in range(len(text) + 1) for more in _readings(rest, text[end:])
    ]


def test_reading_back_takes_time_in_proportion_to_the_text() -> None:
    """A remote service chooses the text; the template is ours."""
    template = " ".join("{" + name + "}" for name in "abcdefghij")
    assert read_back(template, " " * 200_000) is None
