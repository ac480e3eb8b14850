"""One direction of a proxied connection, on a loop whose time stands still unless told otherwise."""

import asyncio
from collections.abc import Callable

import pytest

from tests.ground.flow import Flow


class Sink(asyncio.Transport):
    """Keeps what was written, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True

    def write(self, data: object) -> None:
        """See asyncio.WriteTransport."""
        assert isinstance(data, bytes)
        self.written.append(data)

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return False

    def pause_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self.reading = False

    def resume_reading(self) -> None:
        """See asyncio.ReadTransport."""
        self.reading = True


def play(scene: Callable[[Flow, Sink, asyncio.Event], None]) -> Sink:
    """Let a scene happen on a loop, and return its sink once the flow has ended."""

    async def main() -> Sink:
        ended = asyncio.Event()
        sink = Sink()
        flow = Flow(asyncio.get_running_loop(), ended.set)
        scene(flow, sink, ended)
        flow.end()
        await asyncio.wait_for(ended.wait(), 20)
        return sink

    return asyncio.run(main())


def test_bytes_come_one_at_a_time() -> None:
    """Each is a write of its own, in order, over chunks."""

    def scene(flow: Flow, sink: Sink, ended: asyncio.Event) -> None:
        flow.one_byte = True
        flow.write_to(sink)
        flow.push(b"abc", 0)
        flow.push(b"de", 0)

    assert play(scene).written == [b"a", b"b", b"c", b"d", b"e"]


def test_nothing_overtakes() -> None:
    """A chunk without delay waits for a late one before it; what came before the sink is kept."""

    def scene(flow: Flow, sink: Sink, ended: asyncio.Event) -> None:
        flow.push(b"late", 0.01)
        flow.push(b"early", 0)
        flow.write_to(sink)
        assert sink.written == []

    assert play(scene).written == [b"late", b"early"]


def test_a_blocked_flow_holds_its_bytes_and_its_end() -> None:
    """A full receiver delays, and does not lose."""

    def scene(flow: Flow, sink: Sink, ended: asyncio.Event) -> None:
        flow.write_to(sink)
        flow.block(True)
        flow.push(b"held", 0)
        flow.end()
        assert sink.written == []
        assert not ended.is_set()
        flow.block(False)

    assert play(scene).written == [b"held"]


@pytest.mark.parametrize("drop", [True, False])
def test_too_much_pauses_the_source(drop: bool) -> None:
    """Until it was delivered; what was dropped is never delivered."""

    def scene(flow: Flow, sink: Sink, ended: asyncio.Event) -> None:
        flow.read_from(sink)
        flow.write_to(sink)
        flow.push(bytes(2 * 1024 * 1024), 0.01)
        assert not sink.reading
        if drop:
            flow.drop()

    sink = play(scene)
    assert sink.reading
    assert len(sink.written) == (0 if drop else 1)
