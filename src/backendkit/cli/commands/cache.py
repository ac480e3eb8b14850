"""`backendkit cache`: what a running Redis has of a cache, and dropping from it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from backendkit.cli.loading import UsageError
from backendkit.core.errors import InvalidArgument, StoreError

if TYPE_CHECKING:
    from backendkit.cache.admin import CacheAdmin

HELP = "Count, inspect, invalidate and clear a cache's entries in a running Redis."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=("stats", "inspect", "invalidate", "clear"))
    parser.add_argument("keys", nargs="*", metavar="KEY", help="for inspect and invalidate")
    parser.add_argument("--url", required=True, help="of the store, like redis://host:6379/0")
    parser.add_argument("--namespace", default="bk", help="of the cache; default: bk")
    parser.add_argument(
        "--tag", dest="tags", action="append", default=[], help="for invalidate; may be repeated"
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    from backendkit.cache.admin import CacheAdmin  # noqa: PLC0415 - only this command needs it
    from backendkit.stores import connect  # noqa: PLC0415 - as above

    if args.url.partition(":")[0] == "memory":
        raise UsageError(
            "a cache in memory is seen by its own process alone; --url must name a Redis"
        )
    try:
        store = connect(args.url, timeout=5.0)
        try:
            _ACTIONS[args.action](CacheAdmin(store, args.namespace), args)
        finally:
            store.close()
    except (InvalidArgument, StoreError) as error:
        raise UsageError(str(error)) from error
    return 0


def _stats(admin: CacheAdmin, args: argparse.Namespace) -> None:
    found = admin.stats()
    print(f"{found.entries} entries, {found.leases} leases")


def _inspect(admin: CacheAdmin, args: argparse.Namespace) -> None:
    for key in _needed(args, args.keys):
        found = admin.inspect(key)
        if found.state == "absent":
            print(f"{key}: absent")
            continue
        tags = f", tags {' '.join(found.tags)}" if found.tags else ""
        print(
            f"{key}: {found.state}, {found.bytes} bytes, fresh for {found.fresh_s:.1f} s, "
            f"serves for {max(found.fresh_s, found.stale_s):.1f} s, loaded in {found.load_s:.3f} s{tags}"
        )


def _invalidate(admin: CacheAdmin, args: argparse.Namespace) -> None:
    named = _needed(args, [*args.keys, *args.tags])
    admin.invalidate(*args.keys, tags=tuple(args.tags))
    print(f"invalidated {' '.join(named)}")


def _clear(admin: CacheAdmin, args: argparse.Namespace) -> None:
    admin.clear()
    print(f"cleared {args.namespace}")


def _needed(args: argparse.Namespace, names: list[str]) -> list[str]:
    if not names:
        raise UsageError(f"{args.action} needs at least one KEY")
    return names


_ACTIONS = {"stats": _stats, "inspect": _inspect, "invalidate": _invalidate, "clear": _clear}
