"""`python -m backendkit.cli`, where the script is not on the path."""

import sys

from backendkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
