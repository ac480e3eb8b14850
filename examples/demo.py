"""Start the accounts service behind FastAPI and behind Flask, talk to both, and show that they answer alike.

    python examples/demo.py [SECTION ...]

Exits with 0 if every answer is what it should be, else with 1 and a diff. Needs no Redis and leaves nothing behind.
"""

import sys
from pathlib import Path

# Run as a file, this has its own folder on the module path; the packages here are named from the folder above it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.client.play import run

if __name__ == "__main__":
    run()
