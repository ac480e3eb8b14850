"""Prepare what a target of the Makefile needs; a second run does nothing.

usage: python3 .ci/setup.py demo | dev | bench
"""

from __future__ import annotations

import subprocess
import sys

from environment import Environment

ENVIRONMENTS = {
    "demo": Environment(".venv-demo", lock="demo.txt"),
    "dev": Environment(".venv", lock="dev.txt"),
    "bench": Environment(".venv-bench", lock="bench.txt"),
}


def main() -> None:
    """Make one environment ready."""
    if len(sys.argv) != 2 or sys.argv[1] not in ENVIRONMENTS:
        sys.exit(__doc__)
    try:
        ENVIRONMENTS[sys.argv[1]].ensure()
    except subprocess.CalledProcessError as error:
        sys.exit(f"set-up failed: {' '.join(map(str, error.cmd))} exited with {error.returncode}")


if __name__ == "__main__":
    main()
