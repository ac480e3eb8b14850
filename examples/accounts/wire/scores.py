"""Scores as clients see them."""

from pydantic import BaseModel

from examples.accounts.wire.reply import Reply
from examples.accounts.wire.users import PATH as USERS

PATH = USERS + "/{user_id}/score"
"""Where a user's score is."""


class ScoreView(BaseModel):
    """A user's score."""

    score: int


def shown(score: int) -> Reply:
    """Answer with a score."""
    return Reply(200, ScoreView(score=score).model_dump_json().encode())
