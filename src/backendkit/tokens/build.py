"""From options to the `Core` that both faces of one `Tokens` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.core.keys import KeySpace
from backendkit.core.store import Store
from backendkit.tokens.claims import ACCESS_CLAIMS
from backendkit.tokens.mint import ACCESS_TYPE, REFRESH_TYPE, Mint
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.recent import Recent
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.state import Core, Loader
from backendkit.tokens.verifier import Verifier

REMEMBERED_EPOCHS = 50_000
"""Users whose epoch is remembered at least; about 200 bytes each."""


def build(  # noqa: PLR0913 - options, by name only
    *,
    keys: KeyRing,
    secret: SecretRing,
    issuer: str,
    audience: str | Iterable[str],
    store: Store | None,
    loader: Loader | None,
    users: Callable[[str], Any] | None,
    policy: TokenPolicy,
    clock: Clock | None,
    hooks: Hooks | None,
    namespace: str,
) -> Core:
    """Check options that depend on each other, and put the parts together; see `Tokens`."""
    now: Clock = clock or (store.clock if store is not None else SystemClock())
    audience = audience if isinstance(audience, str) else tuple(audience)
    if not issuer or not audience:
        raise InvalidArgument("issuer", "and audience must not be empty", issuer)
    mode = policy.check or ("stateless" if store is None else "epoch")
    if store is None and mode != "stateless":
        raise InvalidArgument("check", "needs a store", mode, "pass store=, or check='stateless'")
    return Core(
        policy=policy, mode=mode, issuer=issuer,
        mint=Mint(keys, issuer=issuer, audience=audience, life_us=policy.access_us, clock=now),
        access=_access(keys, issuer, audience, now), refresh=_refresh(secret, issuer), secret=secret,
        space=KeySpace("tokens", version=1, kind="user", namespace=namespace),
        loader=loader, users=users, clock=now, hooks=hooks or Hooks(), epochs=Recent(REMEMBERED_EPOCHS),
    )  # fmt: skip


def _access(keys: KeyRing, issuer: str, audience: str | tuple[str, ...], clock: Clock) -> Verifier:
    return Verifier(
        keys, issuer=issuer, audience=audience, typ=ACCESS_TYPE, require=ACCESS_CLAIMS, clock=clock
    )


def _refresh(secret: SecretRing, issuer: str) -> Verifier:
    return Verifier(
        secret.keys("refresh"), issuer=issuer, audience=issuer, typ=REFRESH_TYPE,
        require=("iss", "sub", "aud", "sid", "gen", "at"), clock=_Timeless(),
    )  # fmt: skip


class _Timeless(SystemClock):
    """The clock of refresh tokens: whether one has expired is decided by the store's clock, in the script."""

    __slots__ = ()

    def wall_us(self) -> int:
        return 0
