"""The composition root: the one place that knows which parts the service is made of.

A front asks for `Services` and takes from it what its routes need. A feature that joins adds a field here, a module
in `domain`, one in `wire`, and one a front.
"""

from dataclasses import dataclass
from typing import Self

from backendkit.kit import Kit
from backendkit.passwords import OWASP, PasswordHasher, PasswordPolicy
from backendkit.ratelimit import Limit
from backendkit.tokens import ApiKeys, Grants, SecondFactor, Tokens
from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.catalogue import Catalogue
from examples.accounts.domain.door import Door
from examples.accounts.domain.logins import Logins, Proofs
from examples.accounts.domain.scoring import Scoring
from examples.accounts.limits import Limits
from examples.accounts.settings import Settings
from examples.accounts.storage.database import SqlStorage
from examples.accounts.storage.factors import SqlApiKeys, SqlFactors
from examples.accounts.upstream.mail import FileMail
from examples.accounts.upstream.payments import HttpPayments
from examples.accounts.upstream.plans import HttpPlans
from examples.accounts.upstream.scores import HttpScores


@dataclass(frozen=True, slots=True)
class Services:
    """All that a front needs, built once per process.

    Attributes:
        kit: the library's features, as `BACKENDKIT_*` sets them up.
        storage: where everything is kept.
        accounts: users, and the rules about them.
        scores: the service that keeps scores.
        payments: the provider of payments.
        scoring: how users stand with it.
        plans: the service that keeps the plans.
        catalogue: what can be subscribed to, cached.
        limits: what is let through.
        tokens: who is logged in.
        logins: how they prove it.
        keys: how machines do.
        key_rows: where their keys are kept.
        door: where operators log in.
    """

    kit: Kit
    storage: SqlStorage
    accounts: Accounts
    scores: HttpScores
    payments: HttpPayments
    scoring: Scoring
    plans: HttpPlans
    catalogue: Catalogue
    limits: Limits
    tokens: Tokens
    logins: Logins
    keys: ApiKeys
    key_rows: SqlApiKeys
    door: Door

    @classmethod
    def from_env(cls) -> Self:
        """Build the services as the environment sets them up; connects to nothing yet."""
        return cls.build(Settings(), Kit.from_env())

    @classmethod
    def build(cls, settings: Settings, kit: Kit) -> Self:
        """Put the parts together."""
        storage = SqlStorage(settings.database_url)
        kit.health.add("database", storage.ping)
        accounts, scores = Accounts(storage), HttpScores(settings.scores_url)
        scoring = Scoring(accounts, scores)
        plans = HttpPlans(settings.plans_url)

        def grants(subject: str) -> Grants | None:
            return logins.grants(subject)

        tokens = kit.tokens(loader=grants)
        proofs = Proofs(
            hasher=kit.passwords(),
            policy=PasswordPolicy(),
            tokens=tokens,
            resets=kit.one_time("password-reset"),
            factors=SecondFactor(SqlFactors(storage.engine), issuer="Accounts", clock=kit.clock),
            attempts=kit.limiter(Limit("attempts", "10/minute"), name="attempts"),
        )
        logins = Logins(storage, accounts, proofs, FileMail(settings.mail_folder))
        key_rows = SqlApiKeys(storage.engine)
        limits = Limits.of(kit)
        return cls(
            kit=kit,
            storage=storage,
            accounts=accounts,
            scores=scores,
            payments=HttpPayments(settings.payments_url, kit),
            scoring=scoring,
            plans=plans,
            catalogue=Catalogue(plans, kit.cache()),
            tokens=tokens,
            logins=logins,
            keys=ApiKeys(key_rows, prefix="acc", clock=kit.clock),
            key_rows=key_rows,
            limits=limits,
            door=Door(PasswordHasher(OWASP), settings.operators, limits.logins),
        )

    def close(self) -> None:
        """Let go of the database and of the other services."""
        self.storage.close()
        self.scores.close()
        self.plans.close()
        self.payments.close()
