"""Whether it pays to look before a lease is asked for: by what share of the last looks has found something."""

from __future__ import annotations


class Looks:
    """The share of reads that find something fresh in the second tier, the latest counting most.

    Attributes:
        share: from none to all.
        at: keys that somebody looks at now.

    Threads may lose a note of each other's: it decides about speed, never about what is served.
    """

    __slots__ = ("at", "share")

    def __init__(self) -> None:
        self.share = 1.0
        self.at: set[str] = set()

    def note(self, found: int, of: int) -> None:
        """Take in what came of reads."""
        self.share += (found / of - self.share) * _WEIGHT

    @property
    def pays(self) -> bool:
        """Whether one key is looked at first: a look that finds nothing costs as much as nine others save."""
        return self.share > _OF_ONE

    @property
    def pays_for_many(self) -> bool:
        """Whether many keys are: there a round trip is little beside what the scripts of those cost that are found."""
        return self.share > _OF_MANY


_WEIGHT = 1 / 16
_OF_ONE = 0.9
_OF_MANY = 0.1
