"""The scenes, one module a feature; add yours to `SECTIONS`."""

from collections.abc import Sequence

from examples.client.scene import Section
from examples.client.scenes import (
    cache,
    conditions,
    door,
    failures,
    leaving,
    limits,
    logins,
    payments,
    refusals,
    users,
)

SECTIONS: Sequence[Section] = (
    users.SECTION,
    refusals.SECTION,
    failures.SECTION,
    conditions.SECTION,
    cache.SECTION,
    limits.SECTION,
    door.SECTION,
    logins.SECTION,
    payments.SECTION,
    leaving.SECTION,
)
"""All of them, in the order they are played; `users` comes first, for it counts on an empty database."""
