"""`backendkit tokens inspect`: what a token says, read from standard input; its signature is never printed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from backendkit.cli.loading import UsageError

HELP = "Show what a token says, and check its signature against a file of keys."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=("inspect",))
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="JWKs or PEM keys to check against"
    )


def run(args: argparse.Namespace) -> int:
    """Read a token from standard input, where no shell history keeps it, and print header and claims."""
    from backendkit.tokens import KeyRefused, KeyRing, TokenError, jws  # noqa: PLC0415 - only this command needs them
    from backendkit.tokens.encoding import load_object  # noqa: PLC0415 - as above

    token = sys.stdin.readline(jws.LONGEST_TOKEN + 2).strip()
    try:
        parts = jws.split(token)
        claims: Any = load_object(jws.payload_of(parts[1]))
        shown: dict[str, Any] = {"header": jws.read_header(parts[0]), "claims": claims}
    except (TokenError, ValueError):
        raise UsageError("standard input holds no token") from None
    if args.keys is None:
        shown["signature"] = "not checked"
    else:
        try:
            jws.verify(token, KeyRing.from_file(args.keys))
            shown["signature"] = "good"
        except TokenError as error:
            shown["signature"] = f"refused: {error.reason}"
        except KeyRefused as error:
            raise UsageError(str(error)) from None
        except OSError as error:
            raise UsageError(f"cannot use {args.keys}: {error.strerror}") from error
    print(json.dumps(shown, indent=2))
    return 0
