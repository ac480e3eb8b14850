"""The demo's printed record: what was asked, what each front answered, what was wrong."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TextIO

from examples.client.front import Answer, Request
from examples.client.scene import Played, Scene

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
NAME_COLUMN = 9
STATUS_COLUMN = 18
ID_COLUMN = 38
NARROWEST = 100


class Transcript:
    """Writes to a stream, in colour where that is a terminal (and `NO_COLOR` is not set).

    Args:
        out: where to write; standard output if None.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colours = self._out.isatty() and "NO_COLOR" not in os.environ
        self._width = max(NARROWEST, shutil.get_terminal_size((140, 24)).columns)

    def line(self, text: str = "", colour: str = "") -> None:
        """Write a line."""
        print(self._painted(text, colour), file=self._out, flush=True)

    def section(self, title: str) -> None:
        """Begin a section."""
        self.line()
        self.line(f"== {title} ".ljust(self._width, "="), BOLD)

    def scene(self, scene: Scene, played: Mapping[str, Played], diff: Sequence[str]) -> None:
        """Tell one scene: its request, each front's answer, its faults, and how the fronts differ."""
        (first, *others) = played.items()
        self.line()
        self.line(f"  {scene.what}", BOLD)
        self._cut(f"    {asked(scene.send, first[1].answers[0].path)}", CYAN)
        self._answers(*first)
        for name, part in others:
            self._answers(name, part, "" if diff else "the same bytes")
        if not diff:
            self._cut(f"    {summary(first[1].answers[0])}", DIM)
            return
        self.line("      the fronts do not answer alike:", RED)
        for line in diff:
            self.line(f"      {line}", RED)

    def _answers(self, name: str, part: Played, remark: str = "") -> None:
        columns = f"{tally(part.answers):<{STATUS_COLUMN}}{ids(part.answers):<{ID_COLUMN}}"
        self.line(f"    {name:<{NAME_COLUMN}}{columns}{remark}".rstrip(), _colour(part.answers))
        for line in part.beside:
            self._cut(f"      {line}", DIM)
        for fault in part.faults:
            self.line(f"      {name}: {fault}", RED)

    def _cut(self, text: str, colour: str) -> None:
        """Write one line, and what fits of it."""
        fits = text if len(text) <= self._width else text[: self._width - 1] + "…"
        self.line(fits, colour)

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self._colours else text


def asked(request: Request, path: str) -> str:
    """Return a request in one line.

    Args:
        request: what was sent.
        path: its path, with everything filled in.
    """
    body = (request.content or b"").decode(errors="backslashreplace")
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    return "  ".join(filter(None, [f"{request.method} {path}", *headers, body]))


def tally(answers: Sequence[Answer]) -> str:
    """Return the status of one answer, or how many there are of each: `1x201 7x409`."""
    if len(answers) == 1:
        return str(answers[0].status)
    counts = Counter(answer.status for answer in answers)
    return " ".join(f"{count}x{status}" for status, count in sorted(counts.items()))


def ids(answers: Sequence[Answer]) -> str:
    """Return the id of one answer, or how many different ones there are."""
    if len(answers) == 1:
        return answers[0].request_id
    return f"{len({answer.request_id for answer in answers})} request ids"


def summary(answer: Answer) -> str:
    """Return what matters of an answer's body, in one line."""
    data = answer.data
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        return _told(data["error"])
    return answer.body.decode(errors="backslashreplace") or "(no body)"


def _told(error: Mapping[str, object]) -> str:
    details = error.get("details")
    issues = [
        f"{detail.get('field', '-')}: {detail.get('issue')}"
        for detail in (details if isinstance(details, list) else [])
    ]
    return "  ".join([f"{error.get('code')}: {error.get('message')}", *issues])


def _colour(answers: Sequence[Answer]) -> str:
    worst = max(answer.status for answer in answers)
    return GREEN if worst < 400 else YELLOW if worst < 500 else RED
