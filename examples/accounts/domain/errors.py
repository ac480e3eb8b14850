"""What can go wrong with accounts.

    Conflict        409
    └── EmailTaken       EMAIL_TAKEN
    NotFound        404
    └── UserNotFound     USER_NOT_FOUND

A message is read by clients, and by whoever reads logs: it never holds personal data, such as an address.
"""

from backendkit.errors import Conflict, NotFound


class EmailTaken(Conflict):
    """Another user registered this e-mail address first."""

    code = "EMAIL_TAKEN"
    message = "This e-mail address is already registered"


class UserNotFound(NotFound):
    """There is no user with this id. Carries `user_id`."""

    code = "USER_NOT_FOUND"
    message = "There is no user {user_id}"
