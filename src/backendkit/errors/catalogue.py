"""Every error that clients can be told, as a list to read: for programs, for a wiki, for a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from inspect import cleandoc
from itertools import groupby
from typing import NamedTuple, cast

from backendkit.core.errors import AppError
from backendkit.errors.envelope import title_of
from backendkit.errors.foreign import NEWER_PHRASES
from backendkit.errors.templates import fields


class Entry(NamedTuple):
    """One error.

    Attributes:
        code: UPPER_SNAKE; the anchor on the HTML page.
        status: 400..599.
        title: the code as words.
        message: the template that clients read filled in.
        parameters: names in the template, in order.
        retryable: whether the same request may succeed later.
        description: the class's docstring up to its first section.
    """

    code: str
    status: int
    title: str
    message: str
    parameters: tuple[str, ...]
    retryable: bool
    description: str


class Catalogue(NamedTuple):
    """All errors, by status and code.

    Attributes:
        entries: as above.
    """

    entries: tuple[Entry, ...]

    def to_json(self) -> str:
        """Return `{"errors": [{"code", "status", ...}]}`, indented, with a newline at the end."""
        listed = [entry._asdict() for entry in self.entries]
        return json.dumps({"errors": listed}, ensure_ascii=False, indent=2) + "\n"

    def to_markdown(self, *, title: str = "Errors") -> str:
        """Return a page with a section for each status, and a table in each."""
        return "\n".join(_markdown(self, title)) + "\n"

    def to_html(self, *, title: str = "Errors") -> str:
        """Return a page that needs nothing else: no script, no font, no other file.

        Each error's anchor is its code, so that `https://example.com/errors#{code}` can be the `docs_url`.
        """
        from backendkit.errors.page import page  # noqa: PLC0415 - the largest text of the feature, for one format

        return page(self, title)

    def by_status(self) -> Iterator[tuple[int, tuple[Entry, ...]]]:
        """Yield each status with its errors."""
        for status, entries in groupby(self.entries, key=lambda entry: entry.status):
            yield status, tuple(entries)


def entry(kind: type[AppError]) -> Entry:
    """Return what is to be said of an error class."""
    said = cast("object", kind.message)
    message = said if isinstance(said, str) else title_of(kind.code)  # a property says it per error
    return Entry(
        code=kind.code,
        status=kind.status,
        title=title_of(kind.code),
        message=message,
        parameters=fields(message),
        retryable=kind.retryable is True,
        description=_description(kind.__doc__),
    )


def phrase(status: int) -> str:
    """Return the standard's words for a status, by its newest name on every Python, or none where it has none."""
    try:
        return NEWER_PHRASES.get(status, (HTTPStatus(status).phrase,))[0]
    except ValueError:
        return ""


_SECTION = re.compile(
    r"^(Args|Arguments|Attributes|Example|Examples|Note|Notes|Raises|Returns|See Also|Yields):\s*$",
    re.MULTILINE,
)


def _description(doc: object) -> str:
    """Return what a class's own docstring says of it; its sections are for those who raise it."""
    return _SECTION.split(cleandoc(doc), maxsplit=1)[0].strip() if isinstance(doc, str) else ""


def _markdown(catalogue: Catalogue, title: str) -> Iterator[str]:
    yield f"# {_cell(title)}"
    for status, entries in catalogue.by_status():
        yield f"\n## {status} {phrase(status)}".rstrip()
        yield "\n| code | message | may be retried | meaning |\n|---|---|---|---|"
        for at in entries:
            retry = "yes" if at.retryable else "no"
            meaning = _cell(at.description)
            yield f'| <a id="{at.code}"></a>`{at.code}` | {_cell(at.message)} | {retry} | {meaning} |'


def _cell(text: str) -> str:
    """Return a text as one line in which neither Markdown nor HTML finds anything to do, except code spans."""
    line = " ".join(text.split())
    return re.sub(r"([\\|*_\[\]#~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;")
