"""Ports: free, held, and never one that the kernel hands out."""

import socket
from pathlib import Path

import pytest

from tests.ground.ports import HOST, Ports


def test_a_held_port_is_not_given_again() -> None:
    """Not by the same registry, not by that of another session."""
    ours, theirs = Ports(), Ports()
    port = ours.take()
    try:
        assert not theirs._hold(port)
        assert not ours._hold(port)
    finally:
        ours.give_back(port)
    assert theirs._hold(port)
    theirs.give_back(port)


def test_a_port_in_use_is_not_given() -> None:
    """A stranger's listener is noticed."""
    ports = Ports()
    with socket.create_server((HOST, 0)) as stranger:
        assert not ports._hold(stranger.getsockname()[1])


def test_ports_lie_below_the_ephemeral_range() -> None:
    """Else an outgoing connection takes the port of a dead server, or connects to itself."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = Ports()
    taken = [ports.take() for _ in range(50)]
    for port in taken:
        ports.give_back(port)
    assert max(taken) < lowest
    assert len(set(taken)) == len(taken)


def test_no_port_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not look for ever."""
    ports = Ports()
    monkeypatch.setattr(ports, "_hold", lambda _: False)
    with pytest.raises(RuntimeError, match="no free port"):
        ports.take()
