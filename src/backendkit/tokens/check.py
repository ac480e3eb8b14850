"""Whether a token that was good still counts: by what this process knows, or by what the store says."""

from __future__ import annotations

from typing import Any

from backendkit.core.errors import InvalidArgument, StoreError
from backendkit.core.flow import IO
from backendkit.tokens import events
from backendkit.tokens.decide import record
from backendkit.tokens.decide.session import digest_of, key_of
from backendkit.tokens.errors import TokenRevoked
from backendkit.tokens.principal import Principal
from backendkit.tokens.state import Core, ask, learn


async def confirm(io: IO, core: Core, principal: Principal) -> None:
    """Ask the store whether a token's session still counts; one round trip.

    Raises:
        TokenRevoked: it does not.
        StoreError: the store is down, and the policy does not let it pass.
    """
    subject, sid = principal.subject, principal.session_id
    digest = digest_of(subject)
    asked = core.clock.mono_us()
    try:
        key, idle = key_of(core.space, digest), core.policy.idle_us
        operation = record.look(key, (sid or "").encode(), digest, idle)
        epoch, live = await io.run(operation)
    except StoreError:
        if not _passes_stale(core, principal):
            raise
        return
    learn(core, subject, epoch, asked)
    if principal.epoch < epoch:
        revoked(core, "epoch")
    if core.mode == "session" and not (live and sid):
        revoked(core, "session")


def settled(core: Core, principal: Principal) -> bool:
    """Tell whether a token passes by what this process knows; False: the store must be asked.

    Raises:
        TokenRevoked: the user's epoch is known to be past the token's.
    """
    if core.mode == "stateless":
        return True
    found = core.epochs.get(principal.subject) if core.mode == "epoch" else None
    if found is None:
        return False
    if principal.epoch < found[0]:
        revoked(core, "epoch")
    return core.clock.mono_us() - found[1] < core.policy.epoch_ttl_us


async def user_of(io: IO, core: Core, principal: Principal) -> Any:
    """Return the application's object for a principal.

    Raises:
        TokenRevoked: there is no such user any more.
        ServiceUnavailable: the loader failed.
    """
    if core.users is None:
        raise InvalidArgument("users", "was not given", None, "Tokens(users=load_user)")
    user = await ask(io, core.users, principal.subject)
    if user is None:
        revoked(core, "no such user")
    return user


def revoked(core: Core, reason: str) -> None:
    """Tell of a revoked token and refuse it."""
    core.tell(events.TokenRefused("access", reason))
    raise TokenRevoked(reason)


def _passes_stale(core: Core, principal: Principal) -> bool:
    """Tell whether the policy lets a token pass by what was known before the store went down."""
    found, bound = core.epochs.get(principal.subject), core.policy.max_stale_us
    if found is None or bound is None or core.clock.mono_us() - found[1] > bound:
        return False
    if principal.epoch < found[0]:
        revoked(core, "epoch")
    return True
