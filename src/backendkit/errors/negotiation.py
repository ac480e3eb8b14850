"""Which of the offered media types a client prefers: RFC 9110 section 12.5.1, with q-values as they are meant."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_ACCEPT = 1024
"""Characters of an Accept header that are read; longer ones come from nobody who negotiates."""


def preferred(accept: str | None, offers: Sequence[str]) -> str:
    """Return the offer that `accept` ranks highest; among equals the first offered.

    The most specific range that covers an offer gives its quality (`type/subtype` before `type/*` before
    `*/*`), wherever it stands; parameters other than `q` are not told apart. No header, one that covers nothing, or
    one that cannot be read gives the first offer: an error must be told in some format.

    Args:
        accept: the header's value, or None.
        offers: media types in lower case, without parameters, best first.
    """
    if not accept or len(accept) > LONGEST_ACCEPT:
        return offers[0]
    ranges = dict(weighed(part) for part in accept.lower().split(","))
    best, best_quality = offers[0], 0.0
    for offer in offers:
        quality = _quality(offer, ranges)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def weighed(part: str) -> tuple[str, float]:
    """Return one element of an `Accept...` header, in lower case, and its quality: `de;q=0.5` is `("de", 0.5)`.

    A quality that cannot be read counts as "not acceptable".
    """
    name, *params = part.split(";")
    quality = 1.0
    for param in params:
        key, _, value = param.partition("=")
        if key.strip() == "q":
            quality = _weight(value.strip())
    return name.strip(), quality


def _quality(offer: str, ranges: dict[str, float]) -> float:
    kind = offer.partition("/")[0]
    for name in (offer, f"{kind}/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def _weight(text: str) -> float:
    """Read a qvalue: 0..1 with at most three decimals; anything else counts as "not acceptable"."""
    whole, _, decimals = text.partition(".")
    digits = decimals.isascii() and decimals.isdecimal() and len(decimals) <= 3
    if whole == "1":
        return 0.0 if decimals.strip("0") or len(decimals) > 3 else 1.0
    return float(f"0.{decimals}") if whole == "0" and digits else 0.0
