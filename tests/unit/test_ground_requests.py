"""The request parser: whatever the slicing, the same requests, ending at the same bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ground.requests import Request, RequestLog, RequestParser
from tests.ground.resp import pack

requests = st.lists(st.lists(st.binary(max_size=12), min_size=1, max_size=4).map(tuple), max_size=6)


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a stream at these places."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(places)]


@given(sent=requests, cuts=st.lists(st.integers(0, 500)))
def test_any_slicing_gives_the_same_requests(sent: list[Request], cuts: list[int]) -> None:
    """Requests and the places where they end do not depend on how the bytes arrive."""
    stream = b"".join(pack(*request) for request in sent)
    parser = RequestParser()
    found, ends, passed = [], [], 0
    for chunk in chunks(stream, cuts):
        for request, end in parser.feed(chunk):
            assert 0 < end <= len(chunk)
            found.append(request)
            ends.append(passed + end)
        passed += len(chunk)
    lengths = [len(pack(*request)) for request in sent]
    assert found == sent
    assert ends == [sum(lengths[: number + 1]) for number in range(len(sent))]
    assert not parser.opaque


@pytest.mark.parametrize("stream", [b"\x16\x03\x01\x02\x00\x01", b"PING\r\n", b"\r\n"])
def test_what_is_not_resp_is_called_opaque(stream: bytes) -> None:
    """A TLS handshake is not counted as anything, and does not fill the memory."""
    parser = RequestParser()
    assert parser.feed(stream) == []
    assert parser.feed(pack("PING")) == []
    assert parser.opaque


def test_an_incomplete_record_refuses_to_be_counted() -> None:
    """A count that may be too low must not prove that something was not sent."""
    log = RequestLog()
    log.record((b"PING",))
    log.give_up()
    with pytest.raises(RuntimeError, match="did not speak plain RESP"):
        log.all()
    log.clear()
    assert log.all() == []


def test_the_record_is_bounded() -> None:
    """Beyond 64 MiB the oldest requests go, and the record says so."""
    log = RequestLog()
    big = bytes(40 * 1024 * 1024)
    log.record((b"SET", b"a", big))
    assert len(log.all()) == 1
    log.record((b"SET", b"b", big))
    with pytest.raises(RuntimeError, match="were forgotten"):
        log.all()
