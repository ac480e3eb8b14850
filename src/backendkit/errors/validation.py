"""From a validator's findings to lines of an envelope: where, what, and a code that stays.

Reads lists of dicts as pydantic and FastAPI make them (`type`, `loc`, `msg`, `ctx`, `input`), without importing
either. Three things are lost on purpose. The input: texts are ours, not the validator's, because those quote what
they found ("found `z` at 1"), and a text of the application's own is dropped where it repeats the value. Type names
that a validator puts into the path of a union's failures: clients sent `items.0`, not `items.0.constrained-str`.
And the difference between releases of the validator: codes are our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from backendkit.errors.foreign import MOST_DETAILS
from backendkit.errors.issues import ISSUES, NO_MATCH, NOT_AN_EMAIL, NOT_JSON, OTHER, Issue
from backendkit.errors.templates import fields
from backendkit.errors.texts import text_of
from backendkit.errors.tree import AppError, Detail, MalformedBody, ValidationFailed

PLACES = frozenset({"body", "query", "path", "header", "cookie"})
"""Where in a request a field can be: the values of a line's `in`."""

UNKNOWN: Any = object()
"""Stands for a body that the caller does not have."""


def validation_error(
    errors: Iterable[Mapping[str, Any]], *, place: str | None = None, body: Any = UNKNOWN
) -> AppError:
    """Return what to tell the client: `ValidationFailed`, or `MalformedBody` where the JSON cannot even be read.

    Args:
        errors: pydantic-style errors.
        place: where the fields are, if the errors' locations do not begin with it.
        body: the parsed body, by which type names in locations are told from keys.
    """
    found = list(errors)
    details = issues(found, place=place, body=body)
    if found and all(error.get("type") == "json_invalid" for error in found):
        return MalformedBody(details=details)
    return ValidationFailed(details=details)


def issues(
    errors: Iterable[Mapping[str, Any]], *, place: str | None = None, body: Any = UNKNOWN
) -> list[Detail]:
    """Return lines `{field?, issue, code, pointer?, in?}`, at most 100, one for each field and code.

    Args:
        errors: as for `validation_error`.
        place: as for `validation_error`.
        body: as for `validation_error`.
    """
    lines: dict[tuple[object, ...], _Line] = {}
    unions = False
    for error in errors:
        line = _line(error, place, body)
        where, path, words, union = line
        lines.setdefault((where, path, words.code, union and words.issue), line)
        unions = unions or union
        if len(lines) >= MOST_DETAILS:
            break
    told = _without_unions(lines.values()) if unions else lines.values()
    return [line.detail() for line in told]


def syntax_issue(message: str, offset: int) -> Detail:
    """Return the line for a body that is not JSON: an offset, for there is no field yet."""
    return _Line("body", (), _not_json(message, offset), union=False).detail()


def _not_json(reason: str, offset: int) -> _Words:
    params = {"offset": offset, "reason": reason}
    return _Words("INVALID_JSON", NOT_JSON.format_map(params), NOT_JSON, params)


class _Words(NamedTuple):
    """What is wrong: `issue` is `template` with `params`."""

    code: str
    issue: str
    template: str
    params: Mapping[str, Any]


class _Line(NamedTuple):
    """One finding. `union` says that its path led through a union's alternatives."""

    place: str | None
    path: tuple[object, ...]
    words: _Words
    union: bool

    def detail(self) -> Detail:
        place, path, words, _ = self
        line = {"issue": words.issue, "code": words.code}
        if path:
            field, pointer = _spelled(path)
            line = {"field": field, **line}
            if pointer and place in {"body", None}:
                line["pointer"] = pointer
        if place:
            line["in"] = place
        return Issue(line, words.template, words.params)


def _spelled(path: tuple[object, ...]) -> tuple[str, str]:
    """Return a path with dots, and as a pointer, empty where a part may not be told. What may be needs no escapes."""
    told = [str(part) if _tellable(part) else "" for part in path]
    if "" in told:
        return ".".join([part or "*" for part in told]), ""
    return ".".join(told), "/" + "/".join(told)


def _line(error: Mapping[str, Any], place: str | None, body: Any) -> _Line:
    kind = text_of(error.get("type", ""))
    loc: tuple[Any, ...] = tuple(error.get("loc") or ())
    if place is None and loc and loc[0] in PLACES:
        place, loc = str(loc[0]), loc[1:]
    if kind == "json_invalid":
        offset = next((part for part in loc if isinstance(part, int)), 0)
        context: Mapping[str, Any] = error.get("ctx") or {}
        reason = text_of(context.get("error", "")) or "syntax error"
        words = _not_json(_without_position(reason), offset)
        return _Line(place, (), words, union=False)
    path = loc
    if place in {"body", None} and body is not UNKNOWN:
        path = _real(loc, body, kind)
    return _Line(place, path, _told(kind, error), union=len(path) < len(loc))


def _real(loc: Sequence[Any], node: Any, kind: str) -> tuple[object, ...]:
    """Follow a location through the body; what is neither key nor index there is a type's name, and is left out."""
    path: list[object] = []
    for number, part in enumerate(loc):
        if _leads_on(node, part):
            node = node[part]
        elif not (kind == "missing" and number == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def _leads_on(node: Any, part: Any) -> bool:
    if type(node) is dict or isinstance(node, Mapping):  # the former costs a tenth of the latter
        return part in node
    return (
        isinstance(node, list | tuple)
        and isinstance(part, int)
        and 0 <= part < len(cast("list[object]", node))
    )


def _without_unions(lines: Iterable[_Line]) -> list[_Line]:
    """Let the several complaints of a union's alternatives about one place speak as one."""
    out: dict[tuple[str | None, tuple[object, ...]], _Line] = {}
    plain: list[_Line] = []
    for line in lines:
        where = (line.place, line.path)
        if not line.union:
            plain.append(line)
        elif where in out:
            out[where] = line._replace(words=_fixed("INVALID_TYPE", NO_MATCH))
        else:
            out[where] = line
    return plain + list(out.values())


def _told(kind: str, error: Mapping[str, Any]) -> _Words:
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    context: Mapping[str, Any] = error.get("ctx") or {}
    known = ISSUES.get(kind)
    if known is not None:
        code, template = known
        try:
            issue = template.format_map(context)
            params = {name: context[name] for name in fields(template)}
        except Exception:  # noqa: BLE001 - a constraint's __format__, or a context without it
            return _fixed(code, OTHER)
        return _Words(code, issue, template, params)
    if kind in {"value_error", "assertion_error"}:
        return _fixed("INVALID_VALUE", _own_text(error, context))
    code = re.sub(r"\W", "_", kind, flags=re.ASCII).upper()[:64] or "INVALID_VALUE"
    return _fixed(code, _discreet(text_of(error.get("msg") or OTHER), error.get("input")))


def _fixed(code: str, text: str) -> _Words:
    """Return words without parameters."""
    return _Words(code, text, text, _NOTHING)


_NOTHING: Mapping[str, Any] = MappingProxyType({})


# The words of every sentence that has no parameters, made once.
_PLAIN = MappingProxyType(
    {kind: _fixed(code, text) for kind, (code, text) in ISSUES.items() if "{" not in text}
)


def _own_text(error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Return the text of a ValueError that the application raised."""
    if "error" in context:
        text = text_of(context["error"]) or OTHER
        if _is_literal(text, context["error"]):
            return text
        return _discreet(text, error.get("input"))
    if "email" in text_of(
        error.get("msg")
    ):  # pydantic's EmailStr, whose text quotes the address's parts
        return NOT_AN_EMAIL
    return OTHER


def _is_literal(text: str, error: object) -> bool:
    """Whether `text` stands, whole, in the code that raised `error`: then it repeats nothing, whatever the input was."""
    traceback = error.__traceback__ if isinstance(error, BaseException) else None
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and text in traceback.tb_frame.f_code.co_consts


def _discreet(text: str, value: object) -> str:
    """Return `text`, unless it repeats the value that it is about."""
    folded = text.casefold()
    for count, leaf in enumerate(_leaves(value)):
        if count >= 50 or _has_word(folded, leaf.casefold()):
            return OTHER
    return text


def _has_word(text: str, leaf: str) -> bool:
    """Whether `leaf` stands in `text`; a short one only as a word of its own: "mail" is in every text on e-mail."""
    if len(leaf) >= _SURELY_INPUT:
        return leaf in text
    return re.search(rf"(?<!\w){re.escape(leaf)}(?!\w)", text) is not None


_SURELY_INPUT = 8


def _leaves(value: object, depth: int = 0) -> Iterator[str]:
    """Walk the scalars of an input as text, those long enough to be recognised."""
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = chain.from_iterable(cast("Mapping[object, object]", value).items())
    elif isinstance(value, list | tuple | set | frozenset):
        inner = cast("Iterable[object]", value)
    elif value is not None and not isinstance(value, bool):
        text = text_of(value)
        if len(text) >= 3:
            yield text
    if depth >= 5:  # deeper than anything that a text about it could mean
        return
    for part in inner:
        yield from _leaves(part, depth + 1)


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def _tellable(part: object) -> bool:
    """Whether a path's segment may be told: an index, or a name; other keys are input like any value."""
    return isinstance(part, int) or (isinstance(part, str) and _NAME.fullmatch(part) is not None)


def _without_position(reason: str) -> str:
    """Keep what is wrong, drop "line 1 column 5 (char 4)", which the offset says, and anything quoted."""
    return re.split(r": line \d| at line \d|[`'\"]", reason, maxsplit=1)[0].strip()[:100]
