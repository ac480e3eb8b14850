"""The table of ghosts remembers the latest keys, nearly all of them, and hardly any other."""

from hypothesis import given
from hypothesis import strategies as st

from backendkit.cache.ghosts import SLOT_BYTES, WAYS, Ghosts


@given(
    st.lists(st.integers(0, 40) | st.text(min_size=1, max_size=2), max_size=60), st.integers(1, 60)
)
def test_a_small_table_remembers_no_one_else(added: list[int | str], span: int) -> None:
    """Whoever is found was added among the latest `span`, and is found once."""
    ghosts = Ghosts(64)
    for key in added:
        ghosts.add(key)
    for key in sorted(set(added), key=repr):
        latest = len(added) - max(i for i, k in enumerate(added) if k == key)
        if ghosts.take(key, span):
            assert latest <= span
        assert not ghosts.take(key, 10**6)


def test_it_remembers_nearly_all_of_the_latest() -> None:
    """Of the latest, as many as it has room for, more than five in six are known; of others hardly any."""
    for kind in (int, str):
        ghosts = Ghosts(8_000)
        for n in range(50_000):
            ghosts.add(kind(n))
        false = sum(ghosts.take(kind(n), 8_000) for n in range(10**6, 10**6 + 100_000))
        known = sum(ghosts.take(kind(n), 6_000) for n in range(44_000, 50_000))
        assert false <= 2
        assert known > 5_000


def test_the_oldest_of_a_full_bucket_goes() -> None:
    """With one bucket, four are kept: the latest."""
    ghosts = Ghosts(1)
    for n in range(10):
        ghosts.add(n)
    assert [n for n in range(10) if ghosts.take(n, 100)] == [6, 7, 8, 9]


def test_clearing_forgets() -> None:
    """Nobody is known after it, and its size is what it was."""
    ghosts = Ghosts(100)
    ghosts.add("a")
    ghosts.clear()
    assert not ghosts.take("a", 100)
    assert len(ghosts._slots) * SLOT_BYTES == 128 * 8
    assert len(ghosts._slots) % WAYS == 0
