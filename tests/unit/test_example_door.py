"""The example's door: failures alone are counted, also where many come at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from backendkit.core.clock import ManualClock
from backendkit.errors import RateLimited
from backendkit.kit import Kit
from backendkit.passwords import PasswordHasher, Profile
from examples.accounts.domain.door import Door, WrongPassword
from examples.accounts.limits import Limits

HASHER = PasswordHasher(Profile(memory_kib=8, iterations=1, parallelism=1), failure_time=0.001)
STORED = {"ada": HASHER.hash("right")}


@pytest.fixture
def kit() -> Kit:
    """A kit on a clock of the test's own."""
    return Kit(clock=ManualClock())


@pytest.fixture
def entrance(kit: Kit) -> Door:
    """A door of this test's own."""
    return Door(HASHER, STORED, Limits.of(kit).logins)


def test_failures_alone_are_counted(kit: Kit, entrance: Door) -> None:
    """Whoever knows the password comes in as often as they like; five wrong ones close the name for a minute."""
    for _ in range(20):
        entrance.enter("ada", "right")
    for _ in range(5):
        with pytest.raises(WrongPassword):
            entrance.enter("ada", "wrong")
    with pytest.raises(RateLimited) as caught:
        entrance.enter("ada", "right")
    assert caught.value.retry_after
    with pytest.raises(WrongPassword):
        entrance.enter("nobody", "right")
    kit.clock.sleep(round(caught.value.retry_after * 1_000_000))
    entrance.enter("ada", "right")


def test_fifty_guesses_at_once_get_no_further_than_five(entrance: Door) -> None:
    """A place is taken before the password is looked at."""

    def guess(_: int) -> str:
        try:
            entrance.enter("ada", "wrong")
        except WrongPassword:
            return "looked at"
        except RateLimited:
            return "refused"
        return "in"

    with ThreadPoolExecutor(50) as threads:
        outcomes = list(threads.map(guess, range(50)))
    assert (outcomes.count("looked at"), outcomes.count("refused")) == (5, 45)
