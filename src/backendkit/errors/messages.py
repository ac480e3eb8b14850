"""Messages in other languages: catalogues by code, checked when they are given and total when they are used.

A catalogue is a mapping, or a JSON file of the same shape:

    {"errors": {"SEAT_TAKEN": "Platz {seat} ist belegt"},
     "issues": {"REQUIRED": "Ist erforderlich",
                "Must have at least {min_length} items": "Braucht mindestens {min_length} Einträge"}}

An issue is looked up by its English sentence first, then by its code: one code, like TOO_SHORT, stands for several
sentences. What a catalogue lacks is told in the next shorter tag's (`de-AT`, `de`), then in the default language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from os import PathLike, fspath
from typing import Any, NamedTuple, TypeAlias

from backendkit.core.errors import AppError, Detail, InvalidArgument
from backendkit.errors.issues import SENTENCES, Issue
from backendkit.errors.language import chosen, lookup_chain
from backendkit.errors.templates import faults, fields, fill
from backendkit.errors.texts import mapping

Catalogue: TypeAlias = Mapping[str, Mapping[str, str]]
"""One language's texts: `{"errors": {code: template}, "issues": {code or sentence: template}}`."""

Catalogues: TypeAlias = "Mapping[str, Catalogue | str | PathLike[str]]"
"""Catalogues, or paths of JSON files with one each, by language tag."""


class MessageFault(NamedTuple):
    """One thing that is wrong with a catalogue.

    Attributes:
        language: its tag.
        key: the code, or the issue's sentence; empty where the catalogue as a whole is wrong.
        rule: what is wrong.
    """

    language: str
    key: str
    rule: str


class MessagesError(InvalidArgument):
    """Catalogues do not fit the errors they are for. `faults` has everything that is wrong with them."""

    def __init__(self, faults: tuple[MessageFault, ...]) -> None:
        self.faults = faults
        lines = [f"{at.language}: {at.key}{' ' if at.key else ''}{at.rule}" for at in faults]
        super().__init__("messages", "must fit the errors that they are for", len(faults))
        self.reason = "\n  ".join(("messages do not fit the errors that they are for:", *lines))
        self.args = (self.reason,)


class Language:
    """One language, with what it takes from those that it falls back to.

    Attributes:
        tag: as it was given, like `de-AT`.
    """

    __slots__ = ("_default", "_errors", "_issues", "tag")

    def __init__(self, tag: str, default: str, catalogues: Mapping[str, Catalogue]) -> None:
        self.tag = tag
        self._default = default
        self._errors: dict[str, tuple[str, str]] = {}
        self._issues: dict[str, tuple[str, str]] = {}
        known = {name.lower(): name for name in catalogues}
        for lower in (default.lower(), *reversed(lookup_chain(tag))):
            name = known.get(lower)
            if name is None:
                continue
            texts = catalogues[name]
            self._errors.update(
                (key, (name, text)) for key, text in texts.get("errors", {}).items()
            )
            self._issues.update(
                (key, (name, text)) for key, text in texts.get("issues", {}).items()
            )

    def tell(self, error: AppError, text: str) -> tuple[str, list[Detail], str]:
        """Return message, details and their languages' tags; a text that the application set on the instance stays."""
        tag, template = self._errors.get(error.code, (self._default, None))
        told = None
        if template is not None and "message" not in vars(error):
            told = fill(template, error.params)
        if told is None:
            told, tag = text, self._default
        tags = {tag: None}
        details = [self._line(detail, tags) for detail in error.details]
        return told, details, ", ".join(tags)

    def _line(self, detail: Detail, tags: dict[str, None]) -> Detail:
        """Return a line in this language, if it can be said; note the language that it is in."""
        keys = [detail.get("code", "")]
        params: Mapping[str, Any] = {}
        if isinstance(detail, Issue):
            keys.insert(0, detail.template)
            params = detail.params
        for key in keys:
            tag, template = self._issues.get(key, ("", ""))
            text = fill(template, params) if template else None
            if text is not None:
                tags[tag] = None
                return {**detail, "issue": text}
        tags[self._default] = None
        return detail


class Messages:
    """All languages of one application.

    Args:
        catalogues: by tag. One for the default language rewords what the classes say, and may bring keys of
            issues that only this application has.
        default: tag of the language that the classes' messages are in.
        kinds: the classes, by code.

    Raises:
        MessagesError: an unknown code, a parameter that the original does not have, a text that is no template, a
            file that cannot be read.
    """

    __slots__ = ("_chosen", "_default", "_languages", "_offers")

    def __init__(
        self, catalogues: Catalogues, default: str, kinds: Mapping[str, type[AppError]]
    ) -> None:
        loaded: dict[str, Catalogue] = {}
        found: list[MessageFault] = []
        for tag, source in catalogues.items():
            try:
                loaded[tag] = _loaded(tag, source)
            except (OSError, ValueError) as error:
                found.append(MessageFault(tag, "", f"cannot be read: {error}"))
        found += _faults(loaded, default, kinds)
        if found:
            raise MessagesError(tuple(found))
        self._default = default
        self._languages = {tag: Language(tag, default, loaded) for tag in (*loaded, default)}
        self._offers = {tag.lower(): tag for tag in self._languages}
        self._chosen: dict[str | None, Language] = {}

    def language(self, accept_language: str | None) -> Language:
        """Return the language that a request's Accept-Language asks for, else the default."""
        language = self._chosen.get(accept_language)
        if language is None:
            language = self._languages[chosen(accept_language, self._offers, self._default)]
            if len(self._chosen) >= 256:  # the keys are the clients' to choose
                self._chosen = {}
            if accept_language is None or len(accept_language) <= 256:
                self._chosen[accept_language] = language
        return language


_TAG = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


def _loaded(tag: str, source: Any) -> Catalogue:
    """Return a catalogue as a mapping of two mappings of texts."""
    if not _TAG.fullmatch(tag) or len(tag) > 64:
        raise ValueError("no language tag")
    if isinstance(source, str | PathLike):
        with open(fspath(source), encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 5 ms to import
            source = json.load(file)
    parts = mapping(source)
    if parts is not source:
        raise ValueError("no mapping")
    for part, texts in parts.items():
        if part not in {"errors", "issues"}:
            raise ValueError(f"has {part!r}, and only `errors` and `issues` are read")
        pairs = chain.from_iterable(mapping(texts).items())
        if not isinstance(texts, Mapping) or not all(isinstance(text, str) for text in pairs):
            raise ValueError(f"{part} must map texts to texts")
    checked: Catalogue = parts
    return checked


def _faults(
    catalogues: Mapping[str, Catalogue], default: str, kinds: Mapping[str, type[AppError]]
) -> Iterator[MessageFault]:
    if not _TAG.fullmatch(default):
        yield MessageFault(default, "", "is no language tag")
    seen: dict[str, str] = {}
    for tag in catalogues:
        if seen.setdefault(tag.lower(), tag) != tag:
            yield MessageFault(tag, "", f"is the same language as {seen[tag.lower()]}")
    errors = {code: frozenset(fields(kind.message)) for code, kind in kinds.items()}
    issues = dict(_issue_params(catalogues.get(default, {}).get("issues", {})))
    for tag, texts in catalogues.items():
        for part, known in (("errors", errors), ("issues", issues)):
            for key, template in texts.get(part, {}).items():
                yield from (MessageFault(tag, key, rule) for rule in _wrong(key, template, known))


def _wrong(key: str, template: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    if key not in known:
        from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

        close = get_close_matches(key, known, n=1)
        yield "is not known" + (f"; {close[0]} is" if close else "")
        return
    yield from faults(template, known[key])


def _issue_params(own: Mapping[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the keys that issues have, with the parameters that are there whichever sentence is told."""
    by_code: dict[str, frozenset[str]] = {}
    for key, template in own.items():
        yield key, frozenset(fields(template))
    for sentence, code in SENTENCES.items():
        params = frozenset(fields(sentence))
        yield sentence, params
        by_code[code] = by_code.get(code, params) & params
    yield from by_code.items()
