"""The director: plays sections against all fronts at once and tells how it went."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

from examples.client.front import Front
from examples.client.match import difference
from examples.client.scene import Scene, Section
from examples.client.scenes import SECTIONS
from examples.client.server import NotReady
from examples.client.servers import running
from examples.client.transcript import BOLD, GREEN, RED, Transcript

FAILED = 1
INTERRUPTED = 130


def main(
    arguments: Sequence[str] | None = None,
    *,
    sections: Sequence[Section] = SECTIONS,
    transcript: Transcript | None = None,
) -> int:
    """Start the fronts, play, stop them; return the exit status.

    Args:
        arguments: titles of the sections to play, in any case; none plays all.
        sections: those to choose from.
        transcript: where to tell it.
    """
    told = transcript or Transcript()
    chosen = _choose(sections, arguments)
    began = time.monotonic()
    try:
        with running() as fronts:
            _introduce(told, fronts)
            wrong = perform(chosen, fronts, told)
            if wrong:
                _show_logs(told, fronts)
    except NotReady as error:
        told.line(str(error), RED)
        return FAILED
    except KeyboardInterrupt:
        told.line("interrupted; the servers are stopped", RED)
        return INTERRUPTED
    return _conclude(told, chosen, wrong, time.monotonic() - began)


def perform(sections: Sequence[Section], fronts: Sequence[Front], told: Transcript) -> int:
    """Play sections against fronts; return how many scenes went wrong or differed between fronts."""
    wrong = 0
    for section in sections:
        told.section(section.title)
        for scene in section.scenes:
            wrong += not _perform(scene, fronts, told)
    return wrong


def _choose(sections: Sequence[Section], arguments: Sequence[str] | None) -> list[Section]:
    parser = argparse.ArgumentParser(description="Play the accounts service's scenes.")
    parser.add_argument("section", nargs="*", help=", ".join(part.title for part in sections))
    titles = {title.casefold() for title in parser.parse_args(arguments).section}
    unknown = titles - {part.title.casefold() for part in sections}
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return [part for part in sections if not titles or part.title.casefold() in titles]


def _perform(scene: Scene, fronts: Sequence[Front], told: Transcript) -> bool:
    """Play one scene everywhere; return whether all was well."""
    played = {front.name: scene.play(front) for front in fronts}
    (name, first), *rest = played.items()
    diff = [
        line
        for other, part in rest
        for line in difference(name, first.answers, other, part.answers)
    ]
    told.scene(scene, played, diff)
    return not diff and not any(part.faults for part in played.values())


def _introduce(told: Transcript, fronts: Sequence[Front]) -> None:
    told.line("The accounts service, behind two frameworks:", BOLD)
    for server in filter(None, (front.server for front in fronts)):
        how = f"({server.plan.behind}, pid {server.process.pid})"
        told.line(f"    {server.plan.name:<9}{server.url}  {how}")


def _show_logs(told: Transcript, fronts: Sequence[Front]) -> None:
    for server in filter(None, (front.server for front in fronts)):
        told.line()
        told.line(f"the end of the log of {server.plan.name}:", BOLD)
        told.line(server.tail())


def _conclude(told: Transcript, sections: Sequence[Section], wrong: int, took_s: float) -> int:
    count = sum(len(section.scenes) for section in sections)
    told.line()
    if wrong:
        told.line(f"{wrong} of {count} scenes are not what they should be.", RED)
        return FAILED
    told.line(
        f"{count} scenes, all as they should be; both fronts answered alike. {took_s:.1f} s", GREEN
    )
    return 0


def run() -> None:
    """Run `main` as a program.

    A request to end, and a reader that went away, unwind like any other error, so that the servers end as well.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    try:
        status = main()
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)
