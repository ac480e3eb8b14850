"""Settings of tokens and passwords: read and tried at start, so that a wrong key is named before the first login."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from backendkit.settings.groups import PREFIX, Fault, Group, SecretText, SettingsError

if TYPE_CHECKING:
    from backendkit.passwords import PepperRing
    from backendkit.passwords.stored import Scheme
    from backendkit.tokens import KeyRing, SecretRing, TokenPolicy


class TokenSettings(Group):
    """Keys, names and lives of tokens; what the kit's `tokens` and `one_time` are made of."""

    issuer: str | None = Field(
        default=None,
        pattern=r"^https?://[!-~]{1,500}$",
        description="`iss` of all tokens: this service's address, like `https://id.example.com`.",
    )
    audience: str | None = Field(
        default=None,
        pattern=r"^[!-~]{1,200}( [!-~]{1,200}){0,15}$",
        description="`aud` of access tokens: the API's name; several are parted by spaces.",
    )
    algorithm: str | None = Field(
        default=None,
        description="Algorithm of keys that name none, like `RS256` for RSA in PEM.",
    )
    keys: SecretText | None = Field(
        default=None,
        description="Keys that sign access tokens: a JWK Set (`backendkit keys generate`) or PEM text.",
    )
    keys_file: Path | None = Field(
        default=None, description="Or the file that holds them; not both."
    )
    secrets: SecretText | None = Field(
        default=None,
        description="Secrets of refresh, CSRF and one-time tokens: `id:hex`, the one in use first, parted by "
        "spaces; 32 random bytes each (`openssl rand -hex 32`).",
    )
    access: float = Field(
        default=900, ge=1, le=86_400, description="Seconds that an access token lives, 1..86400."
    )
    idle: float = Field(
        default=604_800,
        ge=1,
        le=31_536_000,
        description="Seconds, 1..31536000, after which a session ends that is not refreshed.",
    )
    absolute: float = Field(
        default=2_592_000,
        ge=1,
        le=31_536_000,
        description="Seconds, 1..31536000, after which a session ends in any case.",
    )
    grace: float = Field(
        default=10,
        ge=0,
        le=60,
        description="Seconds, 0..60, in which a spent refresh token gives the same successor again.",
    )
    max_sessions: int = Field(
        default=50, ge=1, le=200, description="Sessions of one user, 1..200; the oldest gives way."
    )
    check: Literal["stateless", "epoch", "session"] = Field(
        default="epoch",
        description="What a verification asks the store: nothing, whether the user logged out everywhere, "
        "or whether the session lives.",
    )
    epoch_ttl: float = Field(
        default=5,
        ge=0,
        le=300,
        description="Seconds, 0..300, for which `epoch` trusts what it knows.",
    )
    max_stale: float | None = Field(
        default=None,
        ge=0.001,
        le=86_400,
        description="Seconds, 0.001..86400, for which what is known lets tokens pass while the store is down; "
        "none: none passes.",
    )

    @field_validator("keys", "keys_file")
    @classmethod
    def _readable_keys(cls, given: Any, info: ValidationInfo) -> Any:
        if given is not None:
            if info.field_name == "keys_file" and info.data.get("keys") is not None:
                raise ValueError("must not be set beside BACKENDKIT_TOKENS__KEYS")
            _ring(given, info.data.get("algorithm"))
        return given

    @field_validator("secrets")
    @classmethod
    def _readable_secrets(cls, given: SecretText | None) -> SecretText | None:
        if given is not None:
            _secrets(given)
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.policy()
        return self

    def key_ring(self) -> KeyRing:
        """Return the keys.

        Raises:
            SettingsError: none are set.
        """
        given = self.keys or self.keys_file
        if given is None:
            rule = "must be set for tokens: `backendkit keys generate keys.json`, and its path in TOKENS__KEYS_FILE"
            raise SettingsError([Fault(f"{PREFIX}TOKENS__KEYS", rule, None)])
        return _ring(given, self.algorithm)

    def secret_ring(self) -> SecretRing:
        """Return the secrets.

        Raises:
            SettingsError: none are set.
        """
        if self.secrets is None:
            rule = "must be set for tokens: s1:$(openssl rand -hex 32)"
            raise SettingsError([Fault(f"{PREFIX}TOKENS__SECRETS", rule, None)])
        return _secrets(self.secrets)

    def names(self) -> tuple[str, tuple[str, ...]]:
        """Return issuer and audiences.

        Raises:
            SettingsError: one is not set.
        """
        unset = [name for name in ("issuer", "audience") if getattr(self, name) is None]
        if unset:
            raise SettingsError(
                Fault(f"{PREFIX}TOKENS__{name.upper()}", "must be set for tokens", None)
                for name in unset
            )
        return self.issuer or "", tuple((self.audience or "").split())

    def policy(self) -> TokenPolicy:
        """Return lives and checks as `Tokens` takes them."""
        from backendkit.tokens import TokenPolicy  # noqa: PLC0415 - as above

        names = (
            "access",
            "idle",
            "absolute",
            "grace",
            "max_sessions",
            "epoch_ttl",
            "max_stale",
            "check",
        )
        return TokenPolicy(**{name: getattr(self, name) for name in names})


class PasswordSettings(Group):
    """How passwords are hashed; what the kit's `passwords` is made of."""

    memory_mib: int = Field(
        default=64, ge=8, le=16_384, description="MiB of memory of a hash, 8..16384."
    )
    iterations: int = Field(default=3, ge=1, le=1_000, description="Passes over it, 1..1000.")
    parallelism: int = Field(
        default=1, ge=1, le=64, description="Lanes of a hash, 1..64; more only help a lone login."
    )
    peppers: SecretText | None = Field(
        default=None,
        description="Secrets outside the database: `id:hex`, the one in use first, parted by spaces; 32 random "
        "bytes each; none: no pepper.",
    )
    legacy: str = Field(
        default="",
        pattern=r"^[a-z0-9_ ]{0,200}$",
        description="Schemes of rows that are not upgraded yet, parted by spaces, like `bcrypt pbkdf2_sha256`.",
    )
    failure_time: float | None = Field(
        default=None,
        ge=0.001,
        le=60,
        description="Seconds, 0.001..60, after which every failed attempt is answered; none: measured, as long as the "
        "dearest scheme takes.",
    )
    workers: int | None = Field(
        default=None, ge=1, le=1_024, description="Threads that hash, 1..1024; none: one a core."
    )
    max_pending: int = Field(
        default=64, ge=0, le=100_000, description="Callers that may wait for one, 0..100000."
    )
    queue_timeout: float = Field(
        default=5, ge=0, le=600, description="Seconds that they may wait, 0..600."
    )

    @field_validator("peppers")
    @classmethod
    def _readable_peppers(cls, given: SecretText | None) -> SecretText | None:
        if given is not None:
            _peppers(given)
        return given

    @field_validator("legacy")
    @classmethod
    def _known_schemes(cls, given: str) -> str:
        _schemes(given)
        return given

    def pepper_ring(self) -> PepperRing | None:
        """Return the peppers, or None."""
        return None if self.peppers is None else _peppers(self.peppers)

    def schemes(self) -> tuple[Scheme, ...]:
        """Return the legacy schemes."""
        return _schemes(self.legacy)


def _ring(given: SecretText | Path, algorithm: str | None) -> KeyRing:
    from backendkit.tokens import KeyRing  # noqa: PLC0415 - without tokens, no cryptography is loaded

    if isinstance(given, SecretText):
        return KeyRing.from_text(given.get_secret_value(), algorithm)
    try:
        return KeyRing.from_file(given, algorithm)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _secrets(given: SecretText) -> SecretRing:
    from backendkit.tokens import SecretRing  # noqa: PLC0415 - as above

    return SecretRing.from_text(given.get_secret_value())


def _peppers(given: SecretText) -> PepperRing:
    from backendkit.passwords import PepperRing  # noqa: PLC0415 - without passwords, none of it is loaded

    pairs: dict[str, bytes] = {}
    for piece in given.get_secret_value().replace(",", " ").split():
        name, _, digits = piece.partition(":")
        try:
            pepper = bytes.fromhex(digits)
        except ValueError:
            pepper = b""
        if not pepper or name in pairs:
            raise ValueError("must be id:hex, each id once")
        pairs[name] = pepper
    return PepperRing(pairs)


def _schemes(text: str) -> tuple[Scheme, ...]:
    from backendkit.passwords.stored import Scheme  # noqa: PLC0415 - as above

    known = get_args(Scheme)
    unknown = [name for name in text.split() if name not in known]
    if unknown:
        raise ValueError(f"must be of {', '.join(known)}; {unknown[0]} is not")
    return tuple(cast("Scheme", name) for name in text.split())
