"""Settings of circuit breakers."""

from __future__ import annotations

from pydantic import Field

from backendkit.settings.groups import Group


class ResilienceSettings(Group):
    """How circuit breakers that the kit makes keep their state."""

    shared: bool = Field(
        default=True,
        description="Whether circuits are shared through the store, where that is not this process's memory.",
    )
    timeout: float = Field(
        default=0.1,
        ge=0.001,
        le=60,
        description="Seconds that the store may take to answer a circuit, 0.001..60; then each process decides for itself.",
    )
    coalesce: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Seconds that good calls may wait to be told to the store together, 0..1; 0: each is told at once.",
    )
    max_circuits: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Circuits that one process keeps, 1..1,000,000; then those that are closed go, least recently used first.",
    )
    max_open_share: float = Field(
        default=1.0,
        ge=0.000_001,
        le=1,
        description="Share of the hosts of one name whose circuits may be open at once, 0.000001..1; one may always.",
    )
