"""The catalogue as clients see it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from backendkit.http import CacheControl
from examples.accounts.wire.reply import Reply

PATH = "/catalogue"
"""Where the plans are."""

SEEN = PATH + "/cache"
"""Where operators see how the cache of it fares."""

ASK_FIRST = {"Cache-Control": str(CacheControl(no_cache=True))}
"""Clients may keep it, and ask with its tag before each use: a 304 is all that it costs."""

PlanName = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")]
"""A plan's name, as a part of a path."""


class PlanPath(BaseModel):
    """The variable part of `/catalogue/{name}`."""

    name: PlanName


class Price(BaseModel):
    """The body of `PUT /catalogue/{name}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    price: Annotated[int, Field(ge=0, le=1_000_000)]


class PlanView(BaseModel):
    """A plan."""

    name: str
    price: int


class CatalogueView(BaseModel):
    """All plans."""

    plans: list[PlanView]


class Seen(BaseModel):
    """How the cache has fared: hits of its tiers, loads, callers who got what was stale."""

    l1: int
    l2: int
    loads: int
    stale: int


def shown(plans: Sequence[Mapping[str, Any]]) -> Reply:
    """Answer with all plans."""
    view = CatalogueView.model_validate({"plans": list(plans)})
    return Reply(200, view.model_dump_json().encode(), ASK_FIRST)


def repriced() -> Reply:
    """Answer that the price is changed."""
    return Reply(204, b"")


def seen(numbers: Mapping[str, int]) -> Reply:
    """Answer an operator."""
    body = Seen.model_validate(numbers).model_dump_json().encode()
    return Reply(200, body, {"Cache-Control": "no-store"})
