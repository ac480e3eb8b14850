"""Login, refresh, logout and the list of sessions, each written once; both faces run these.

A refresh goes: signature, loader, script, minting. So junk costs no round trip, and a loader or a store that is
down costs nobody their session: 503, and nothing has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import urandom
from typing import Any, NamedTuple

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.flow import IO
from backendkit.tokens import events
from backendkit.tokens.decide import record, rotation
from backendkit.tokens.decide.session import (
    NONE,
    digest_of,
    is_session_id,
    key_of,
    line,
    new_session_id,
)
from backendkit.tokens.errors import (
    InvalidToken,
    SessionEnded,
    TokenReused,
)
from backendkit.tokens.mint import LARGEST_GRANTS, check_subject, claims_of, refresh_token
from backendkit.tokens.principal import Client, Grants, SessionInfo, TokenPair
from backendkit.tokens.state import Core, ask, learn


@dataclass(frozen=True, slots=True)
class NewSession:
    """A login as the caller describes it."""

    subject: str
    grants: Grants
    methods: tuple[str, ...]
    client: Client
    bind: str | None


async def begin(io: IO, core: Core, new: NewSession) -> TokenPair:
    """Begin a session and return its first pair; one round trip."""
    subject = check_subject(new.subject)
    claims = _claims_of(new.grants, new.methods)
    kept = _kept(core, claims, new.methods)
    digest = digest_of(subject)
    sid = new_session_id(subject, urandom(12))
    active = core.secret.active_id
    login = record.Login(
        sid=sid.encode(), digest=digest, secret=active.encode(), bind=_bind(new.bind),
        **_lines(new.client), grants=kept, absolute=core.policy.absolute_us, idle=core.policy.idle_us,
        most=core.policy.max_sessions, ttl=core.ttl_us,
    )  # fmt: skip
    asked = core.clock.mono_us()
    opened = await io.run(record.login(key_of(core.space, sid), login))
    learn(core, subject, opened.epoch, asked)
    core.tell(events.SessionStarted(subject, sid, opened.displaced))
    state = (1, opened.now, opened.now + core.policy.absolute_us)
    whose = _Whose(subject, sid, opened.epoch, opened.now)
    return _pair(core, whose, claims, state, active)


async def renew(
    io: IO, core: Core, token: str | bytes, client: Client, bind: str | None
) -> TokenPair:
    """Exchange a refresh token; one round trip beside the loader's.

    Raises:
        InvalidToken: not one of our refresh tokens, or bound to another client.
        SessionEnded: its session is over.
        TokenReused: it was spent; the whole family is revoked now.
        ServiceUnavailable: loader or store failed; nothing is lost, the same token works again.
    """
    claims = core.check(core.refresh, token, "refresh")
    presented, subject, sid = _presented(core, claims, client, bind)
    fresh = None if core.loader is None else await _load(io, core, subject, sid)
    asked = core.clock.mono_us()
    rotated = await io.run(rotation.rotate(key_of(core.space, sid), presented))
    learn(core, subject, rotated.epoch, asked)
    _refuse(core, subject, sid, presented, rotated)
    kept: dict[str, Any] = json.loads(rotated.grants)
    granted = kept if fresh is None else _claims_of(fresh, kept.get("amr", ()))
    _tell_rotation(core, subject, sid, presented, rotated)
    state = (rotated.generation, rotated.rotated, rotated.absolute)
    whose = _Whose(subject, sid, rotated.epoch, rotated.created)
    return _pair(core, whose, granted, state, rotated.secret.decode())


async def end(io: IO, core: Core, session_id: str) -> bool:
    """End one session; tells whether it was there. One round trip."""
    if not is_session_id(session_id):
        return False
    ended = await io.run(
        record.end(key_of(core.space, session_id), session_id.encode(), core.ttl_us)
    )
    if ended:
        core.tell(events.SessionsRevoked(None, session_id, 1))
    return ended


async def end_all(io: IO, core: Core, subject: str) -> int:
    """End all sessions of a user and raise their epoch; return how many. One round trip."""
    digest = digest_of(check_subject(subject))
    asked = core.clock.mono_us()
    epoch, count = await io.run(record.end_all(key_of(core.space, digest), digest, core.ttl_us))
    learn(core, subject, epoch, asked)
    core.tell(events.SessionsRevoked(subject, None, count))
    return count


async def listed(io: IO, core: Core, subject: str) -> list[SessionInfo]:
    """List a user's live sessions, oldest first. One round trip."""
    digest = digest_of(check_subject(subject))
    rows = await io.run(record.sessions(key_of(core.space, digest), digest, core.policy.idle_us))
    return [
        SessionInfo(
            row.sid.decode(), row.created / SECOND_US, row.rotated / SECOND_US,
            min(row.absolute, row.rotated + core.policy.idle_us) / SECOND_US,
            row.device.decode(), row.agent.decode(), row.address.decode(), row.generation - 1,
        )
        for row in rows
    ]  # fmt: skip


async def _load(io: IO, core: Core, subject: str, sid: str) -> Grants:
    loader = core.loader
    assert loader is not None  # noqa: S101 - the caller looked
    found = await ask(io, loader, subject)
    if found is None:
        await end(io, core, sid)
        raise SessionEnded("no such user")
    if not isinstance(found, Grants):
        raise InvalidArgument("loader", "must return Grants or None", type(found).__name__)
    return found


def _presented(
    core: Core, claims: Mapping[str, Any], client: Client, bind: str | None
) -> tuple[rotation.Presented, str, str]:
    subject, sid, generation, at = claims["sub"], claims["sid"], claims["gen"], claims["at"]
    digest = digest_of(subject)
    whole = (
        type(generation) is int and type(at) is int and 0 < generation < 2**53 and 0 <= at < 2**53
    )
    if not whole or not is_session_id(sid) or not digest.startswith(sid[:8].encode()):
        raise InvalidToken("refresh claims")
    lines = _lines(client)
    presented = rotation.Presented(
        sid.encode(), digest, generation, at, _bind(bind), lines["agent"], lines["address"],
        core.secret.active_id.encode(), core.policy.grace_us, core.policy.idle_us, core.ttl_us,
    )  # fmt: skip
    return presented, subject, sid


def _refuse(
    core: Core, subject: str, sid: str, presented: rotation.Presented, rotated: rotation.Rotation
) -> None:
    outcome = rotated.outcome
    if outcome == rotation.REUSE:
        core.tell(
            events.RefreshReused(
                subject, sid, presented.generation, rotated.generation,
                rotated.address.decode(), presented.address.decode(),
            )
        )  # fmt: skip
        raise TokenReused("reuse")
    if outcome == rotation.EXPIRED:
        core.tell(events.TokenRefused("refresh", "session expired"))
        raise SessionEnded("expired")
    if outcome == rotation.UNBOUND:
        core.tell(events.TokenRefused("refresh", "binding"))
        raise InvalidToken("binding")
    if outcome == rotation.GONE:
        core.tell(events.TokenRefused("refresh", "session gone"))
        raise SessionEnded("gone")


def _tell_rotation(
    core: Core, subject: str, sid: str, presented: rotation.Presented, rotated: rotation.Rotation
) -> None:
    if rotated.outcome == rotation.REPLAY:
        first, address = rotated.address.decode(), presented.address.decode()
        core.tell(events.RefreshReplayed(subject, sid, rotated.generation, first, address))
        return
    if rotated.outcome == rotation.FORWARD:
        core.tell(events.StoreRolledBack(subject, sid, rotated.generation))
    core.tell(events.SessionRotated(subject, sid, rotated.generation))


class _Whose(NamedTuple):
    """What both tokens of a pair say of their user and session."""

    subject: str
    sid: str
    epoch: int
    created: int


def _pair(
    core: Core,
    whose: _Whose,
    claims: Mapping[str, Any],
    state: tuple[int, int, int],
    secret_id: str,
) -> TokenPair:
    subject, sid, epoch, created = whose
    key = core.secret.keys("refresh").get(secret_id)
    if key is None:
        raise SessionEnded("secret")  # its secret was taken out between this refresh and the last
    idle = core.policy.idle_us
    access = core.mint.access(subject, claims, session_id=sid, epoch=epoch, auth_time_us=created)
    return TokenPair(
        access_token=access,
        refresh_token=refresh_token(key, core.issuer, (subject, sid), state, idle),
        expires_in=core.policy.access_us // SECOND_US,
        refresh_expires_in=min(idle, state[2] - state[1]) // SECOND_US,
        session_id=sid,
        subject=subject,
    )


def _claims_of(grants: Grants, methods: Iterable[str]) -> dict[str, Any]:
    return claims_of(grants.roles, grants.scopes, grants.claims, methods)


def _kept(core: Core, claims: Mapping[str, Any], methods: tuple[str, ...]) -> bytes:
    """Return what a session keeps of its grants: with a loader, only how the user logged in."""
    kept = claims if core.loader is None else ({"amr": list(methods)} if methods else {})
    text = json.dumps(kept, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LARGEST_GRANTS:
        raise InvalidArgument(
            "claims",
            f"with roles and scopes must fit into {LARGEST_GRANTS} bytes",
            len(text),
            "pass a loader",
        )
    return text


def _lines(client: Client) -> dict[str, bytes]:
    return {
        "device": line(client.device, 64),
        "agent": line(client.agent, 96),
        "address": line(client.address, 45),
    }


def _bind(bind: str | None) -> bytes:
    """Return the binding as its digest: any length in, 22 safe characters out."""
    return NONE if bind is None else digest_of(bind)
