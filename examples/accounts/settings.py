"""What an operator can set, by environment or in `.env`. The library's own settings are `BACKENDKIT_*`."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The service's settings.

    Attributes:
        database_url: where accounts are kept, in SQLAlchemy's notation. May hold a password, so it has no place
            in a repr.
        scores_url: the service that keeps the scores.
        plans_url: the service that keeps the plans.
        payments_url: the provider of payments.
        mail_folder: where mails are written to; None: nowhere.
        operators: the hash of each operator's password, by name; as it is, "operator" has the one that the demo says.
    """

    model_config = SettingsConfigDict(env_prefix="ACCOUNTS_", env_file=".env", extra="ignore")

    database_url: str = Field(default="sqlite:///accounts.sqlite3", repr=False)
    scores_url: str = "http://127.0.0.1:9"
    plans_url: str = "http://127.0.0.1:9"
    payments_url: str = "http://127.0.0.1:9"
    mail_folder: str | None = None
    operators: dict[str, str] = Field(
        default={
            "operator": "$argon2id$v=19$m=19456,t=2,p=1$YyQUqhjLSqcMc1bxfy/FKQ"
            "$aT5gn07ZSoWFbJOTnXvXrJ22l4TA2ZqW1lS/RvLTp4M"
        },
        repr=False,
    )
