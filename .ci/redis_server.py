"""Make sure that the suite can start Redis servers of its own, and leave none behind on the default port.

The tests over TLS make their certificates with `openssl`, which is looked for too.

usage: python3 .ci/redis_server.py
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
from pathlib import Path

import packages

PORT = 6379


def ensure(policy: Path, port: int) -> None:
    """Install what is missing; a server that listens already is none of our business."""
    missing = [needed for needed in ("redis-server", "openssl") if shutil.which(needed) is None]
    if not missing:
        return
    before = listening(port)
    packages.install(*missing, policy=policy)
    if shutil.which("redis-server") is None:
        sys.exit("apt-get installed redis-server, yet it is not on PATH")
    if listening(port) and not before:
        sys.exit(
            f"installing redis-server started a daemon on port {port}; stop it: service redis-server stop"
        )


def listening(port: int) -> bool:
    """Tell whether something accepts connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main() -> None:
    """Read the command line; its options exist for the tests of this script."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--policy", type=Path, default=packages.POLICY)
    options.add_argument("--port", type=int, default=PORT)
    chosen = options.parse_args()
    ensure(chosen.policy, chosen.port)


if __name__ == "__main__":
    main()
