"""`backendkit errors`: the catalogue of an application's errors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backendkit.cli.loading import UsageError, load

if TYPE_CHECKING:
    from backendkit.errors import Catalogue, Errors

HELP = "List every error that clients can be told, as JSON, Markdown or an HTML page."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--app",
        metavar="MODULE:NAME",
        help="an Errors, or what has one as `errors`, like a Kit, or a function that returns either; "
        "default: backendkit's own errors",
    )
    parser.add_argument(
        "--format", choices=("json", "markdown", "html"), default="json", help="default: json"
    )
    parser.add_argument("--title", default="Errors", help="title of the page; default: Errors")
    parser.add_argument("--output", metavar="FILE", type=Path, help="default: standard output")


def run(args: argparse.Namespace) -> int:
    """Write the catalogue."""
    text = _written(_registry(args.app).catalogue(), args.format, args.title)
    output: Path | None = args.output
    if output is None:
        # As bytes, for a catalogue is UTF-8 whatever the terminal's encoding; the page's links depend on it.
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}") from error
    return 0


def _registry(target: str | None) -> Errors:
    from backendkit.errors import Errors  # noqa: PLC0415 - only this command needs it

    if target is None:
        return Errors()
    found = load(target)
    if callable(found) and not isinstance(found, Errors) and not hasattr(found, "errors"):
        found = found()
    registry = getattr(found, "errors", found)
    if not isinstance(registry, Errors):
        raise UsageError(f"{target!r} is neither an Errors nor has one as `errors`")
    return registry


def _written(catalogue: Catalogue, form: str, title: str) -> str:
    if form == "markdown":
        return catalogue.to_markdown(title=title)
    return catalogue.to_html(title=title) if form == "html" else catalogue.to_json()
