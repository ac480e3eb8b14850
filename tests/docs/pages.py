"""Finding and running the code blocks of a page.

A page's `python` blocks run in order, in one namespace, in an interpreter of their own. A `text` block right
after them is what they must have printed. A `console` block holds commands behind `$`, each followed by what it
must print. `<!-- no-run: reason -->` before a block excludes it; without a reason the page is wrong.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
EXCUSE = re.compile(r"<!-- no-run:(?P<reason>.*?)-->\s*\Z", re.DOTALL)
KINDS = {
    "python",
    "text",
    "console",
    "toml",
    "ini",
    "json",
    "bash",
    "dockerfile",
    "html",
    "http",
    "yaml",
}
MARK = "\x1e"
"""Printed between blocks to tell their outputs apart; a page does not print it itself."""


class WrongPage(Exception):
    """A page shows code that does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: what it is, what it says, the line it starts on, and why it is not run (None: it is)."""

    kind: str
    text: str
    line: int
    excuse: str | None


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    found: list[Block] = []
    end = 0
    for match in FENCE.finditer(page):
        kind = match["info"].strip().split(" ")[0]
        line = page.count("\n", 0, match.start("text")) + 1
        if kind not in KINDS:
            raise WrongPage(
                f"line {line}: a block of kind {kind!r}; one of {', '.join(sorted(KINDS))}"
            )
        excuse = EXCUSE.search(page[end : match.start()])
        if excuse and not excuse["reason"].strip():
            raise WrongPage(f"line {line}: no-run needs a reason")
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(kind, text, line, excuse["reason"].strip() if excuse else None))
        end = match.end()
    return found


def run(page: str, folder: Path) -> int:
    """Run all that a page shows, in a folder of its own; return how many blocks ran."""
    found = blocks(page)
    code = [block for block in found if block.kind == "python" and block.excuse is None]
    printed = _run_python(code, folder) if code else []
    for block, output in zip(code, printed, strict=True):
        following = found[found.index(block) + 1 :][:1]
        if following and following[0].kind == "text" and following[0].excuse is None:
            _compare(following[0], output)
    consoles = [block for block in found if block.kind == "console" and block.excuse is None]
    for block in consoles:
        _run_console(block, folder)
    return len(code) + len(consoles)


def _run_python(code: list[Block], folder: Path) -> list[str]:
    """Run blocks in one namespace, on the lines they have in the page, and return what each printed."""
    program = ""
    for block in code:
        padding = block.line - 1 - program.count("\n") - 1
        program += "\n" * max(padding, 0) + f"print({MARK!r}, end='')\n" + block.text
    (folder / "page.py").write_text(program, encoding="utf-8")
    done = _run([sys.executable, "-W", "error", "page.py"], folder)
    if done.returncode:
        raise WrongPage(done.stderr)
    return done.stdout.split(MARK)[1:]


def _run_console(block: Block, folder: Path) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = _run(["bash", "-c", command], folder)
        if done.returncode:
            raise WrongPage(
                f"line {block.line}: {command} exited with {done.returncode}\n{done.stderr}"
            )
        if shown.strip():
            _compare(Block("text", shown, block.line, None), done.stdout)


def _compare(expected: Block, output: str) -> None:
    """Hold what the page shows beside what came; a line of `...` stands for any lines."""
    parts = re.split(r"^\.\.\.$", expected.text.strip(), flags=re.MULTILINE)
    pattern = ".*".join(re.escape(part) for part in parts)
    if not re.fullmatch(pattern, output.strip(), re.DOTALL):
        raise WrongPage(
            f"line {expected.line}: the page shows\n{expected.text}\nbut what came is\n{output}"
        )


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    ours = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACKENDKIT_")}
    return subprocess.run(
        command,
        cwd=folder,
        env=kept | {"PATH": ours},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
