"""Accept: the client's preference, held against an oracle that does it the slow way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.errors import preferred

OFFERS = ("application/json", "application/problem+json")
JSON, PROBLEM = OFFERS


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/problem+json", PROBLEM),
        ("application/problem+json, application/json", JSON),
        ("application/problem+json, application/json;q=0.9", PROBLEM),
        ("application/json;q=0.5, application/problem+json;q=0.6", PROBLEM),
        ("*/*, application/json;q=0.1", PROBLEM),
        ("application/json;q=0, */*;q=0.1", PROBLEM),
        ("text/html, application/xhtml+xml", JSON),
        ("text/html, */*;q=0.8", JSON),
        ("APPLICATION/PROBLEM+JSON", PROBLEM),
        ("application/problem+json ; Q=1.000 , */* ;q=0.5", PROBLEM),
        ("application/problem+json;q=1.5, application/json;q=0.1", JSON),
        ("application/problem+json;q=0.0001, */*;q=0", JSON),
        ("application/problem+json;q=x, application/json;q=0.1", JSON),
        ("application/problem+json;profile=x", PROBLEM),
        ("application/json;q=0", JSON),
        ("application/problem+json" + " " * 2000, JSON),
    ],
)
def test_the_clients_preference_is_followed(accept: str | None, expected: str) -> None:
    """By quality, by specificity, then by our order."""
    assert preferred(accept, OFFERS) == expected


RANGES = st.sampled_from([*OFFERS, "application/*", "*/*", "text/html"])
WEIGHTS = st.integers(0, 1000).map(lambda n: n / 1000)


@given(st.dictionaries(RANGES, WEIGHTS))
def test_the_choice_agrees_with_the_definition(ranges: dict[str, float]) -> None:
    """For each offer the most specific range; the best quality; the first among equals."""

    def quality(offer: str) -> float:
        return ranges.get(offer, ranges.get("application/*", ranges.get("*/*", 0.0)))

    header = ", ".join(f"{name};q={weight:.3f}" for name, weight in ranges.items())
    best = max(quality(offer) for offer in OFFERS)
    expected = OFFERS[0] if best == 0 else next(o for o in OFFERS if quality(o) == best)
    assert preferred(header, OFFERS) == expected


@given(st.text())
def test_any_header_gives_some_offer(header: str) -> None:
    """Nothing raises."""
    assert preferred(header, OFFERS) in OFFERS
