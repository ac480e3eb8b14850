"""Install Debian packages without starting the daemons that come with them.

Debian starts a service as soon as its package is unpacked, which would leave a Redis on its default port on
whatever machine runs the tests. `policy-rc.d` is Debian's own way to forbid that (invoke-rc.d(8)): while it
exits with 101, nothing is started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
FORBID = "#!/bin/sh\nexit 101\n"


def install(*names: str, policy: Path = POLICY) -> None:
    """Install packages by apt-get with no daemon started; exit with advice where that cannot be done."""
    if shutil.which("apt-get") is None or not os.access(policy.parent, os.W_OK):
        wanted = " ".join(names)
        sys.exit(f"this needs {wanted}; as root on Debian: apt-get install {wanted}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the policy is put back
    try:
        with daemons_forbidden(policy):
            _apt_get("update")
            _apt_get("install", "--yes", "--no-install-recommends", *names)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)} exited with {error.returncode}")


@contextmanager
def daemons_forbidden(policy: Path) -> Iterator[None]:
    """Forbid service starts for a block, and put back what the machine's owner had there."""
    kept = policy.with_name(policy.name + ".kept")
    if policy.is_symlink() or (policy.exists() and policy.read_text() != FORBID):
        policy.rename(kept)
    policy.write_text(FORBID)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
        if kept.is_symlink() or kept.exists():
            kept.rename(policy)


def _apt_get(*arguments: str) -> None:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        ["apt-get", "-q", *arguments],
        check=True,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
