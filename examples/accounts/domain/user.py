"""A user, and the values one is made of.

Parse, don't validate: `parse_email` and `parse_name` are the only ways to an `EmailAddress` or a `PersonName`, so
that whoever holds one need not look again.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

EmailAddress = NewType("EmailAddress", str)
"""An address in the one spelling that is stored and compared: trimmed, in lower case."""

PersonName = NewType("PersonName", str)
"""A name as its owner writes it: trimmed, of 1 to 100 characters, none of them a control character."""

MAX_EMAIL = 254
"""Characters in an address, at most: RFC 5321 section 4.5.3.1.3 less the angle brackets (erratum 1690)."""

MAX_NAME = 100
"""Characters in a name, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who registered.

    Attributes:
        id: 1 or more; given by the storage, grows, and is never given again.
        email: unique over all users.
        name: what to call them.
        created_at: when they registered, UTC, in whole seconds.
    """

    id: int
    email: EmailAddress
    name: PersonName
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user that the storage has yet to give an id."""

    email: EmailAddress
    name: PersonName
    created_at: datetime


def parse_email(text: str) -> EmailAddress:
    """Return an address in its stored spelling.

    Looks at the shape only: whether mail arrives there, a confirmation mail will tell.

    Raises:
        ValueError: `text` has not the shape of an address.
    """
    address = text.strip().lower()
    if len(address) > MAX_EMAIL or not _ADDRESS.fullmatch(address):
        raise ValueError("Must be a valid e-mail address")
    return EmailAddress(address)


def parse_name(text: str) -> PersonName:
    """Return a name without the white space around it.

    Raises:
        ValueError: `text` is blank, too long, or holds control characters.
    """
    name = text.strip()
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"Must have 1 to {MAX_NAME} characters")
    if _CONTROL.search(name):
        raise ValueError("Must not hold control characters")
    return PersonName(name)


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"[a-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
