"""Which language a client gets, and which format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.errors.language import chosen, lookup_chain
from backendkit.errors.negotiation import preferred, weighed

OFFERS = {tag.lower(): tag for tag in ("en", "de", "de-CH", "fr", "zh-Hant", "pt-BR")}


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("de-ch", "de-CH"),
        ("de-CH-1996", "de-CH"),
        ("zh-Hant-CN-x-private1-private2", "zh-Hant"),
        ("zh-Hans", "en"),
        ("pt", "en"),  # a range is shortened, an offer is not
        ("pt-BR", "pt-BR"),
        ("fr;q=0.4, de;q=0.5", "de"),
        ("fr;q=0.5, de;q=0.5", "fr"),
        ("it, fr;q=0.1", "fr"),
        ("*", "en"),
        ("*, de;q=0.1", "de"),
        ("de;q=0", "en"),
        ("de-AT, de;q=0", "en"),
        ("de-CH, de;q=0", "de-CH"),
        ("de;q=0, de-CH;q=0, fr;q=0.1", "fr"),
        ("de-CH;q=0, de-CH-1996", "de"),
        ("en, de", "en"),
        ("de;q=2, fr;q=0.001", "fr"),
        ("de;q=x", "en"),
        (" de ; q=0.5 ,fr ;q=0.4", "de"),
        (",,;;q=,de", "de"),
        ("de-" + "a" * 70, "en"),
        ("x" * 2000 + ",de", "en"),
    ],
)
def test_a_header_chooses(header: str | None, tag: str) -> None:
    """RFC 9110 section 12.5.4 and RFC 4647 section 3.4."""
    assert chosen(header, OFFERS, "en") == tag


def test_a_chain_drops_what_introduces_a_subtag() -> None:
    """RFC 4647's own example."""
    assert lookup_chain("zh-Hant-CN-x-private1-private2") == (
        "zh-hant-cn-x-private1-private2",
        "zh-hant-cn-x-private1",
        "zh-hant-cn",
        "zh-hant",
        "zh",
    )


tags = st.lists(st.sampled_from(["de", "CH", "x", "1996", "fr"]), min_size=1, max_size=4).map(
    "-".join
)
weights = st.sampled_from(["", ";q=0", ";q=0.5", ";q=1", ";q=0.123", "; q = 0.5", ";q=7", ";q="])


@given(st.lists(st.tuples(tags | st.just("*"), weights), max_size=6), st.sets(tags, max_size=5))
def test_the_choice_is_that_of_a_plain_reading_of_the_rules(
    parts: list[tuple[str, str]], offered: set[str]
) -> None:
    """Against a slow model that follows the text of the RFC."""
    header = ",".join(name + weight for name, weight in parts)
    offers = {tag.lower(): tag for tag in sorted(offered)} | {"en": "en"}
    assert chosen(header, offers, "en") == _model(header, offers)


def _model(header: str, offers: dict[str, str]) -> str:
    ranges = dict(map(_read, header.lower().split(",")))
    for quality in sorted({q for q in ranges.values() if q > 0}, reverse=True):
        for name in [name for name, q in ranges.items() if q == quality]:
            tag = name
            while tag:
                covering = [r for r in ranges if tag == r or tag.startswith(r + "-")]
                if tag in offers and (not covering or ranges[max(covering, key=len)] > 0):
                    return offers[tag]
                tag = tag.rpartition("-")[0]
                if len(tag.rpartition("-")[2]) == 1:
                    tag = tag.rpartition("-")[0]
    return "en"


def _read(part: str) -> tuple[str, float]:
    name, *params = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for param in params:
        if param.split("=")[0].strip() == "q":
            text = param.split("=", 1)[1].strip()
            quality = float(text) if text in {"0", "1", "0.5", "0.123"} else 0.0
    return name, quality


@given(st.text(max_size=60))
def test_any_header_chooses_something(header: str) -> None:
    """An error must be told in some language and some format."""
    assert chosen(header, OFFERS, "en") in OFFERS.values()
    assert preferred(header, ["a/b", "c/d"]) in {"a/b", "c/d"}


@pytest.mark.parametrize(
    ("text", "quality"),
    [("a;q=1.000", 1), ("a;q=1.", 1), ("a;q=1.001", 0), ("a;q=1.0000", 0), ("a;q=0.1234", 0), ("a;q=0", 0),
     ("a;q=0.", 0), ("a;q=.5", 0), ("a;q=-1", 0), ("a;q=nan", 0), ("a;q=0.9", 0.9), ("a;level=1;q=0.2", 0.2)],
)  # fmt: skip
def test_a_quality_is_read_by_the_letter(text: str, quality: float) -> None:
    """RFC 9110 section 12.4.2: at most three decimals, 0 to 1."""
    assert weighed(text) == ("a", quality)


media = st.sampled_from(
    ["application/json", "application/problem+json", "application/*", "*/*", "text/html"]
)


@given(st.lists(st.tuples(media, weights), max_size=5))
def test_the_format_is_that_of_a_plain_reading_of_the_rules(parts: list[tuple[str, str]]) -> None:
    """The most specific range decides a format's quality, and the best quality decides the format."""
    header = ",".join(name + weight for name, weight in parts)
    qualities = {
        ";q=0": 0.0,
        ";q=0.5": 0.5,
        "; q = 0.5": 0.5,
        ";q=0.123": 0.123,
        ";q=7": 0.0,
        ";q=": 0.0,
    }
    ranges = {name: qualities.get(weight, 1.0) for name, weight in parts}
    offers = ["application/json", "application/problem+json"]
    quality = {
        offer: next((ranges[r] for r in (offer, "application/*", "*/*") if r in ranges), 0.0)
        for offer in offers
    }
    best = max(offers, key=lambda offer: quality[offer])
    assert preferred(header, offers) == best
