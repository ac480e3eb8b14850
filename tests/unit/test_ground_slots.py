"""Slots of keys, and what a node says of its cluster."""

import pytest

from tests.ground.cluster import parse_nodes
from tests.ground.slots import find_tag, key_slot, tag_in

# Replies of CLUSTER KEYSLOT.
KNOWN = {
    b"foo": 12182,
    b"bar": 5061,
    b"123456789": 0x31C3,
    b"{user1000}.following": 3443,
    b"{user1000}.followers": 3443,
    b"foo{}{bar}": 8363,
    b"foo{{bar}}zap": 4015,
    b"foo{bar}{zap}": 5061,
    b"": 0,
}
NODES = """\
aa 127.0.0.1:7000@17000 myself,master - 0 1 1 connected 0-99 101 [102->-bb]
bb 127.0.0.1:7001@17001,host master,fail? - 0 1 2 connected 102-16383
cc 127.0.0.1:7002@17002 slave aa 0 1 1 connected
"""


@pytest.mark.parametrize(("key", "slot"), KNOWN.items())
def test_slots_are_those_of_redis(key: bytes, slot: int) -> None:
    """Hash tags count only if they are not empty, and end at the first closing brace."""
    assert key_slot(key) == slot


def test_a_tag_for_a_slot_is_found() -> None:
    """Keys with the tag lie in the slot."""
    assert key_slot("some{" + tag_in(7) + "}key") == 7
    assert key_slot("{" + find_tag(lambda slot: slot > 16_000) + "}") > 16_000


def test_a_view_is_read_from_cluster_nodes() -> None:
    """Ranges and single slots count, slots under way do not; who is in doubt is set apart."""
    view = parse_nodes(NODES)
    assert view.ranges == ((0, 99, 7000), (101, 101, 7000), (102, 16383, 7001))
    assert view.masters == ((7002, 7000),)
    assert view.doubted == {7001}
    assert view.owner(101) == 7000
    with pytest.raises(LookupError, match="slot 100"):
        view.owner(100)
