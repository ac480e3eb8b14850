"""Every setting of the library, each with its unit, range and default; read from the environment, `.env` and secret files.

A variable's name is the prefix, the group and the setting: `BACKENDKIT_STORE__URL`, `BACKENDKIT_HTTP__ERROR_FORMAT`.
The environment wins over `.env`, which wins over a file of that name in the directory of secrets.
What is wrong is told at start, all of it in one error. A variable that begins like ours and
is none of ours is wrong, too: a misspelt limit must not mean no limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Secret,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnreadableSettings

from backendkit.settings.auth import PasswordSettings, TokenSettings
from backendkit.settings.cache import CacheSettings
from backendkit.settings.groups import PREFIX, Fault, Group, SettingsError
from backendkit.settings.resilience import ResilienceSettings

__all__ = [
    "PREFIX", "CacheSettings", "Fault", "HttpSettings", "PasswordSettings", "RateLimitSettings", "ResilienceSettings",
    "SecretUrl", "Settings", "SettingsError", "StoreSettings", "TokenSettings",
]  # fmt: skip

SECRETS_DIR = "BACKENDKIT_SECRETS_DIR"
"""The variable that names the directory of secret files, like `/run/secrets`."""


def web_concurrency() -> int:
    """Return how many worker processes the environment tells servers to start, by the variable that uvicorn and gunicorn read.

    1 where it is not set, or says nothing that they would take.
    """
    told = os.environ.get("WEB_CONCURRENCY", "")
    return max(1, int(told)) if told.isdecimal() else 1


class SecretUrl(Secret[str]):
    """A URL whose user, password and query values show only through `get_secret_value()`."""

    def _display(self) -> str:
        scheme, separator, rest = self.get_secret_value().partition("://")
        if not separator:
            return "***"
        place, question, _ = rest.partition("?")
        user, at, host = place.rpartition("@")
        return f"{scheme}://{'***' if user else ''}{at}{host}{question}{'***' if question else ''}"


class StoreSettings(Group):
    """Where state lives that requests share: limits, cache, token families, breakers."""

    url: SecretUrl = Field(
        default=SecretUrl("memory://"),
        description="Where the store is: `memory://` for this process alone, or `redis://`, "
        "`rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://`.",
    )
    timeout: float = Field(
        default=0.25,
        ge=0.001,
        le=60,
        description="Seconds that one operation may take, 0.001..60, after which its outcome is unknown.",
    )
    connect_timeout: float = Field(
        default=0.25,
        ge=0.001,
        le=60,
        description="Seconds that connecting may take, 0.001..60, after which the store counts as down.",
    )
    max_entries: int = Field(
        default=1_000_000,
        ge=1,
        le=1_000_000_000,
        description="Entries that the memory store holds, 1..1,000,000,000.",
    )
    max_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        le=2**40,
        description="Bytes, about, that the memory store holds, 1024..2**40.",
    )

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, url: SecretUrl) -> SecretUrl:
        if "://" not in url.get_secret_value():
            raise ValueError("must be a URL, like redis://localhost:6379/0")
        return url


class HttpSettings(Group):
    """How requests are named and errors are told."""

    request_id_header: str = Field(
        default="X-Request-ID",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header that carries the request id in and out: 1..64 letters, digits, hyphens.",
    )
    trust_request_id: bool = Field(
        default=True,
        description="Whether an id that a client or proxy sends is used; if not, every request gets a new one.",
    )
    error_format: Literal["auto", "envelope", "problem"] = Field(
        default="auto",
        description="Shape of errors: `envelope`, `problem` (RFC 9457), or `auto`: as Accept prefers.",
    )
    docs_url: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9+.-]*:.*\{code\}.*$",
        description="Template of a problem's `type`, like `https://example.com/errors/{code}`; "
        "none: `urn:error:<code>`.",
    )
    security_headers: bool = Field(
        default=True,
        description="Whether responses get the security headers of an API where they have none of their own.",
    )
    hsts: str | None = Field(
        default="max-age=31536000",
        pattern=r"^[\x20-\x7e]{1,200}$",
        description="`Strict-Transport-Security` of answers over https; none: it is not sent.",
    )
    access_log: bool = Field(
        default=True, description="Whether each request gets a line of the access log."
    )
    access_sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of access lines that are kept, 0..1; errors and slow requests always are.",
    )
    timeout_header: str | None = Field(
        default="X-Request-Timeout",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Header in which clients say how many seconds they wait; none: they are not asked.",
    )
    timeout: float | None = Field(
        default=None,
        ge=0.001,
        le=86_400,
        description="Seconds, 0.001..86400, that a request may take whose client says nothing; none: no limit.",
    )
    longest_timeout: float = Field(
        default=60.0,
        ge=0.001,
        le=86_400,
        description="Seconds, 0.001..86400, that a client may ask for.",
    )
    live_path: str | None = Field(
        default="/healthz",
        pattern=r"^/[!-~]{0,200}$",
        description="Where probes ask whether the process lives; none: nowhere.",
    )
    ready_path: str | None = Field(
        default="/readyz",
        pattern=r"^/[!-~]{0,200}$",
        description="Where balancers ask whether requests should come here; none: nowhere.",
    )
    metrics_path: str | None = Field(
        default=None,
        pattern=r"^/[!-~]{0,200}$",
        description="Where Prometheus asks for numbers, like `/metrics`, for anybody who can reach it; none: nowhere.",
    )
    check_timeout: float = Field(
        default=1.0,
        ge=0.001,
        le=60,
        description="Seconds, 0.001..60, that a readiness check may take.",
    )
    drain: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds, 0..600, that requests are still accepted after SIGTERM, while readiness is down.",
    )


class RateLimitSettings(Group):
    """How limiters that the kit makes keep their counts."""

    timeout: float = Field(
        default=0.1,
        ge=0.001,
        le=60,
        description="Seconds that the store may take to answer a limiter, 0.001..60; then failure policies decide.",
    )
    nodes: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="Processes that share the limits, 1..1,000,000: the share of `local` limits while the store fails.",
    )
    deny_cache_max: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="Seconds for which a denial is believed without asking the store again, 0..3600; 0: never.",
    )


class Settings(BaseModel):
    """All settings. Built directly it has the defaults and what is passed, and reads nothing.

    Raises:
        SettingsError: naming everything that is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str = Field(
        default="production",
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="Name of the deployment, 1..32 of `a-z0-9-`. In `testing`, unhandled errors are raised "
        "to the test after they were answered.",
    )
    store: StoreSettings = Field(default_factory=StoreSettings, description="The shared store.")
    http: HttpSettings = Field(default_factory=HttpSettings, description="The web frame.")
    ratelimit: RateLimitSettings = Field(
        default_factory=RateLimitSettings, description="Rate limiting."
    )
    cache: CacheSettings = Field(default_factory=CacheSettings, description="The cache.")
    resilience: ResilienceSettings = Field(
        default_factory=ResilienceSettings, description="Circuit breakers."
    )
    tokens: TokenSettings = Field(default_factory=TokenSettings, description="Tokens.")
    passwords: PasswordSettings = Field(default_factory=PasswordSettings, description="Passwords.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_faults(error)) from None  # pydantic's text has the values in it

    @classmethod
    def from_env(
        cls,
        *,
        env_file: str | os.PathLike[str] | None = ".env",
        secrets_dir: str | os.PathLike[str] | None = None,
    ) -> Settings:
        """Read the environment, `.env` and secret files.

        Args:
            env_file: a file of `NAME=value` lines, or None; it need not exist.
            secrets_dir: a directory with one file per secret, named like its variable in either case, or None:
                what `BACKENDKIT_SECRETS_DIR` says.

        Raises:
            SettingsError: naming everything that is wrong, also variables that begin with `BACKENDKIT_` and are none of ours.
        """
        secrets_dir = secrets_dir or os.environ.get(SECRETS_DIR)
        strangers = list(_strangers(env_file, secrets_dir))
        try:
            loaded = _Environment(env_file, secrets_dir)
        except ValidationError as error:
            named = {fault.variable for fault in strangers}
            wrong = [fault for fault in _faults(error) if fault.variable not in named]
            raise SettingsError(strangers + wrong) from None
        except UnreadableSettings as error:  # names the field, not the value
            unreadable = Fault(PREFIX + "*", f"cannot be read: {error}", None)
            raise SettingsError([*strangers, unreadable]) from None
        if strangers:
            raise SettingsError(strangers)
        return cls(**{name: getattr(loaded, name) for name in cls.model_fields})


class _Environment(Settings, BaseSettings):
    """Reads what `Settings` declares from where it may stand."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="ignore",  # of `.env`, which other programs share; what begins like ours is checked above
    )

    def __init__(
        self,
        env_file: str | os.PathLike[str] | None,
        secrets_dir: str | os.PathLike[str] | None,
    ) -> None:
        BaseSettings.__init__(
            self,
            _env_file=None if env_file is None else Path(env_file),
            _secrets_dir=None if secrets_dir is None else Path(secrets_dir),
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Replace pydantic's secret files, which know no nested names, by ours."""
        secrets_dir = getattr(file_secret_settings, "secrets_dir", None)
        return init_settings, env_settings, dotenv_settings, _SecretFiles(settings_cls, secrets_dir)


class _SecretFiles(EnvSettingsSource):
    """Variables that are files: the name is the variable's, the content its value."""

    def __init__(self, settings_cls: type[BaseSettings], secrets_dir: Path | None) -> None:
        self._values = _secret_files(secrets_dir)
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._values


def _secret_files(secrets_dir: str | os.PathLike[str] | None) -> dict[str, str | None]:
    if secrets_dir is None:
        return {}
    folder = Path(secrets_dir)
    if not folder.is_dir():
        raise SettingsError([Fault(SECRETS_DIR, "must be a directory", str(folder))])
    files = [file for file in folder.iterdir() if _is_ours(file.name) and file.is_file()]
    return {file.name.lower(): file.read_text(encoding="utf-8").strip() for file in files}


def _strangers(
    env_file: str | os.PathLike[str] | None, secrets_dir: str | os.PathLike[str] | None
) -> Iterator[Fault]:
    """Find variables that begin like ours and are none of ours."""
    names = {*os.environ, *_secret_files(secrets_dir)}
    if env_file is not None:
        names |= DotEnvSettingsSource(_Environment, env_file=Path(env_file)).env_vars.keys()
    known = {SECRETS_DIR, *_variables(Settings, PREFIX)}
    for name in sorted({name.upper() for name in names if _is_ours(name)} - known):
        close = get_close_matches(name, known, n=1)
        yield Fault(name, "is not a setting" + (f"; {close[0]} is" if close else ""), None)


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX)


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Walk the names of all variables; a group can also be given whole, as JSON."""
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        yield variable
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, variable + "__")


def _faults(error: ValidationError) -> list[Fault]:
    return [_fault(dict(found)) for found in error.errors(include_url=False)]


def _fault(found: dict[str, Any]) -> Fault:
    names = [str(part).upper() for part in found["loc"]]
    rule = found["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    kind = found["type"]
    if kind == "extra_forbidden":
        rule = "is not a setting"
    value = found["input"]
    plain = (
        isinstance(value, str | int | float) and not _is_secret(names) and kind != "extra_forbidden"
    )
    return Fault(PREFIX + "__".join(names), rule, repr(value)[:200] if plain else None)


def _is_secret(names: list[str]) -> bool:
    """Whether the setting at this path is declared secret; unknown ones may well be."""
    model: Any = Settings
    for name in names:
        field = getattr(model, "model_fields", {}).get(name.lower())
        if field is None:
            return True
        model = field.annotation
    kinds = (model, *get_args(model))  # an optional one is a union
    return any(isinstance(kind, type) and issubclass(kind, Secret) for kind in kinds)
