"""Take users over from an older system, with the hashes that it made; they are upgraded as their owners log in.

    python -m examples.accounts.storage.adopt < users.jsonl

Each line is `{"email": ..., "name": ..., "hashed": ..., "roles": "admin"}`. Reads `ACCOUNTS_DATABASE_URL`.
"""

import json
import sys
from collections.abc import Iterable, Mapping

from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.user import parse_email, parse_name
from examples.accounts.settings import Settings
from examples.accounts.storage.database import SqlStorage


def adopt(url: str, users: Iterable[Mapping[str, str]]) -> int:
    """Add users with their hashes and roles; return how many."""
    storage, count = SqlStorage(url), 0
    accounts = Accounts(storage)
    for user in users:
        added = accounts.register(parse_email(user["email"]), parse_name(user["name"]))
        with storage.unit() as unit:
            unit.credentials.put(added.id, user["hashed"], user.get("roles", ""))
        count += 1
    storage.close()
    return count


if __name__ == "__main__":
    print(adopt(Settings().database_url, map(json.loads, sys.stdin)), "users")
