"""What can go wrong with accounts.

    Conflict        409
    └── EmailTaken       EMAIL_TAKEN
    NotFound        404
    ├── UserNotFound     USER_NOT_FOUND
    ├── PlanNotFound     PLAN_NOT_FOUND
    └── KeyNotFound      KEY_NOT_FOUND
    Unprocessable   422
    ├── WrongPassword    WRONG_PASSWORD
    └── WrongCode        WRONG_CODE

A message is read by clients, and by whoever reads logs: it never holds personal data, such as an address.
"""

from backendkit.errors import Conflict, NotFound, Unprocessable


class EmailTaken(Conflict):
    """Another user registered this e-mail address first."""

    code = "EMAIL_TAKEN"
    message = "This e-mail address is already registered"


class UserNotFound(NotFound):
    """There is no user with this id. Carries `user_id`."""

    code = "USER_NOT_FOUND"
    message = "There is no user {user_id}"


class PlanNotFound(NotFound):
    """There is no plan with this name. Carries `plan`."""

    code = "PLAN_NOT_FOUND"
    message = "There is no plan {plan}"


class KeyNotFound(NotFound):
    """The user has no API key with this id."""

    code = "KEY_NOT_FOUND"
    message = "There is no such key"


class WrongPassword(Unprocessable):
    """The current password, asked for before a change, is another one."""

    code = "WRONG_PASSWORD"
    message = "The current password is wrong"


class WrongCode(Unprocessable):
    """The code is not the one that the app shows now."""

    code = "WRONG_CODE"
    message = "The code is wrong"
