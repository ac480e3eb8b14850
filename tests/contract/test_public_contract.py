"""The contract that users run on stores of their own holds for all of ours."""

import pytest

from backendkit.testing import check_store
from tests.ground.stores import KINDS, Bench, Kind


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_our_stores_keeps_the_public_contract(
    bench: Bench, kind: Kind, namespace: str
) -> None:
    """Memory by folds, Redis by Lua."""
    check_store(lambda: bench.store(kind), prefix=namespace)
