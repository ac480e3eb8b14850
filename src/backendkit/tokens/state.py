"""What both faces of one `Tokens` share, what is learnt of users' epochs, and asking the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutine
from typing import Any

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import AppError, InvalidArgument, ServiceUnavailable
from backendkit.core.events import Event, Hooks
from backendkit.core.flow import IO
from backendkit.core.keys import KeySpace
from backendkit.core.outcome import Error
from backendkit.tokens import events
from backendkit.tokens.errors import TokenError
from backendkit.tokens.mint import Mint
from backendkit.tokens.policy import CheckMode, TokenPolicy
from backendkit.tokens.recent import Recent
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.verifier import Verifier

Loader = Callable[[str], Any]
"""`subject -> Grants | None`, `def` or `async def`: what a user may do now; None: there is no such user any more."""

SLACK_US = 86_400 * SECOND_US
"""How much longer than its last session a user's record is kept: collecting garbage must not decide anything."""


@dataclass(frozen=True, slots=True)
class Core:
    """What both faces of one `Tokens` share."""

    policy: TokenPolicy
    mode: CheckMode
    issuer: str
    mint: Mint
    access: Verifier
    refresh: Verifier
    secret: SecretRing
    space: KeySpace
    loader: Loader | None
    users: Callable[[str], Any] | None
    clock: Clock
    hooks: Hooks
    epochs: Recent[str, tuple[int, int]]

    @property
    def ttl_us(self) -> int:
        """How long a user's record is kept after a write, in whole milliseconds."""
        return (self.policy.absolute_us + SLACK_US) // 1000 * 1000

    def tell(self, event: Event) -> None:
        """Emit an event."""
        self.hooks.emit(event)

    def check(self, verifier: Verifier, token: str | bytes, kind: str) -> Mapping[str, Any]:
        """Verify a token and tell of a refusal."""
        try:
            return verifier.verify(token)
        except TokenError as error:
            self.tell(events.TokenRefused(kind, error.reason))
            raise


def learn(core: Core, subject: str, epoch: int, asked_us: int) -> None:
    """Remember a user's epoch as of when the store was asked; one that was learnt meanwhile and is later stays."""

    def later(found: tuple[int, int] | None) -> tuple[int, int]:
        return (epoch, asked_us) if found is None else max(found, (epoch, asked_us))

    core.epochs.update(subject, later)


async def ask(io: IO, loader: Callable[[str], Any], subject: str) -> Any:
    """Return what the application knows of a subject; its failure is a 503, for the token may be good."""
    outcome = await io.call(lambda: loader(subject))
    if isinstance(outcome, Error):
        if isinstance(outcome.error, AppError):
            raise outcome.error
        raise ServiceUnavailable("the application's loader failed") from outcome.error
    if iscoroutine(outcome.value):
        outcome.value.close()
        raise InvalidArgument("loader", "is asynchronous, and this is not", "async def", "use .aio")
    return outcome.value
