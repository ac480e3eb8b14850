"""How users stand with another service."""

from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.ports import Scores


class Scoring:
    """Scores of users. Safe to share between threads.

    Args:
        accounts: who is a user at all.
        scores: who keeps the scores.
    """

    def __init__(self, accounts: Accounts, scores: Scores) -> None:
        self._accounts = accounts
        self._scores = scores

    def score(self, user_id: int) -> int:
        """Return a user's score.

        Raises:
            UserNotFound: there is no such user; nobody else is asked then.
            UpstreamError: whoever keeps the scores has failed.
            UpstreamTimeout: or has not answered in time.
        """
        return self._scores.of(self._accounts.get(user_id).name)
