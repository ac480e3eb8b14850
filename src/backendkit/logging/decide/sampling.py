"""Which access lines are kept."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from backendkit.logging.policy import AccessPolicy


def kept(
    policy: AccessPolicy,
    *,
    status: int,
    duration_us: int,
    request_id: str | None,
    places: tuple[str | None, ...],
    chance: Callable[[], float] | None,
) -> bool:
    """Tell whether the line of a request is written.

    Args:
        policy: the rules.
        status: the answer's.
        duration_us: how long it took, in microseconds.
        request_id: decides by its hash where `chance` is None.
        places: path and route template.
        chance: draws from 0..1; None: the request's id decides, and without one the line is kept.
    """
    if status >= policy.keep_status:
        return True
    if policy.exclude and not policy.exclude.isdisjoint(places):
        return False
    if policy.sample >= 1 or duration_us >= policy.slow_us:
        return True
    if chance is not None:
        return chance() < policy.sample
    if request_id is None:
        return True
    # CRC-32 is no secret hash: whoever chooses ids can choose to be logged, which is no gain.
    return crc32(request_id.encode("utf-8", "backslashreplace")) < policy.sample * 2**32
