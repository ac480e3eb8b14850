"""Addresses as messages show them."""

import pytest

from backendkit.stores.redis.address import Address


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (Address("h"), "h:6379"),
        (Address("10.0.0.1", 7), "10.0.0.1:7"),
        (Address("::1", 7), "[::1]:7"),
        (Address("/run/redis.sock", 0), "/run/redis.sock"),
    ],
)
def test_an_address_reads_as_one_would_write_it(address: Address, shown: str) -> None:
    """With brackets where colons would mislead; a path alone."""
    assert str(address) == shown
    assert f"{address}" == shown
