"""Which of the offered languages a client prefers: RFC 9110 section 12.5.4, by the lookup of RFC 4647 section 3.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backendkit.errors.negotiation import weighed

LONGEST_HEADER = 1024
"""Characters of an Accept-Language header that are read."""

LONGEST_RANGE = 64
"""Characters of one language range; the longest registered tags have half of that."""


def chosen(accept_language: str | None, offers: Mapping[str, str], default: str) -> str:
    """Return the offered tag that `accept_language` ranks highest, or `default`.

    Each range, best first, is shortened until an offer equals it: `de-AT` finds `de-AT`, else `de`. `*` says
    nothing about which, and is passed over. A tag that the most specific range covering it
    refuses (`q=0`) is not taken, except as the default: an error must be told in some language.

    Args:
        accept_language: the header's value, or None.
        offers: tags by their lower-case spelling; the default belongs among them.
        default: what is spoken where nothing fits.
    """
    if not accept_language or len(accept_language) > LONGEST_HEADER:
        return default
    weights = dict(weighed(part) for part in accept_language.lower().split(","))
    wanted = [name for name, weight in weights.items() if weight > 0 and len(name) <= LONGEST_RANGE]
    for name in sorted(wanted, key=lambda name: -weights[name]):
        for tag in _shortened(name):
            if tag in offers and not _refused(tag, weights):
                return offers[tag]
    return default


def lookup_chain(tag: str) -> tuple[str, ...]:
    """Return a tag and what it is shortened to, in lower case: `zh-hant-tw`, `zh-hant`, `zh`."""
    return tuple(_shortened(tag.lower()))


def _shortened(name: str) -> Iterator[str]:
    """Drop subtags from the end; a single character before the last one introduces it, and goes with it."""
    parts = name.split("-")
    while parts:
        yield "-".join(parts)
        parts.pop()
        if parts and len(parts[-1]) == 1:
            parts.pop()


def _refused(tag: str, weights: Mapping[str, float]) -> bool:
    parts = tag.split("-")
    for end in range(len(parts), 0, -1):
        weight = weights.get("-".join(parts[:end]))
        if weight is not None:
            return weight == 0
    return False
