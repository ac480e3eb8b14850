"""`backendkit keys`: signing keys in a file that only its owner can read. Never prints a private key."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backendkit.cli.loading import UsageError
from backendkit.core.clock import SECOND_US, SystemClock

if TYPE_CHECKING:
    from backendkit.tokens import KeyRing

HELP = "Generate, rotate, list and publish signing keys."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=("generate", "rotate", "list", "jwks"))
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a JWK Set, readable by its owner only"
    )
    parser.add_argument("--alg", default="EdDSA", help="of a new key; default: EdDSA")
    parser.add_argument(
        "--ahead", type=int, default=3_900, metavar="SECONDS",
        help="between publishing and signing: JWKS cache age and deploy time; default: 3900",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    from backendkit.tokens import KeyRefused  # noqa: PLC0415 - only this command needs cryptography

    try:
        _ACTIONS[args.action](args)
    except KeyRefused as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot use {args.file}: {error.strerror}") from error
    return 0


def _generate(args: argparse.Namespace) -> None:
    from backendkit.tokens import KeyRing  # noqa: PLC0415 - as above

    if args.file.exists():
        raise UsageError(f"{args.file} exists already; to add a key: backendkit keys rotate")
    _write(args.file, KeyRing.generate(args.alg))
    _list(args)


def _rotate(args: argparse.Namespace) -> None:
    from backendkit.tokens import KeyRing  # noqa: PLC0415 - as above

    if args.ahead < 0:
        raise UsageError("--ahead must not be negative")
    ring = _read(args.file)
    now = SystemClock().wall_us()
    _write(args.file, KeyRing(ring.rotated(args.alg, now, ahead_s=args.ahead)))
    _list(args)


def _list(args: argparse.Namespace) -> None:
    now = SystemClock().wall_us()
    for key in _read(args.file).keys:
        begins = (
            "now" if key.not_before_us <= now else f"in {(key.not_before_us - now) // SECOND_US} s"
        )
        ends = "never" if key.until_us is None else f"in {(key.until_us - now) // SECOND_US} s"
        print(f"{key.kid}  {key.alg}  signs: {begins if key.signs else 'no'}  ends: {ends}")


def _jwks(args: argparse.Namespace) -> None:
    print(json.dumps(_read(args.file).jwks(SystemClock().wall_us()), indent=2))


def _read(file: Path) -> KeyRing:
    from backendkit.tokens import KeyRing  # noqa: PLC0415 - as above

    return KeyRing.from_file(file)


def _write(file: Path, ring: KeyRing) -> None:
    """Replace a file at once, so that nobody ever reads half of it; mode 600 from its first byte."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w") as target:
            json.dump(ring.private_jwks(), target, indent=2)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_ACTIONS = {"generate": _generate, "rotate": _rotate, "list": _list, "jwks": _jwks}
