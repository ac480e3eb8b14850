"""Secrets in text that name themselves: `password=hunter2`, `"token": "x"`, `Cookie: a=b`, `--token x`, `<password>x</password>`.

A regular expression finds the name and the sign behind it. Where the value ends is found by walking over it, because
it may be quoted, escaped, or inside brackets: `{'password': ['a', "b"]}`, `secret=SecretStr('x y')`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

_PART = re.compile(r"[A-Za-z0-9]+")
_AROUND = r"[\w.-]{0,48}+"
_SIGN = (
    # Columns are aligned with many spaces; forms write `user[password][]=`, in URLs with the brackets encoded.
    r"(?:\\{0,8}(?:[\"'\[\]]|%5[bBdD]){0,6}+\s{0,64}+(?:[=-]>|:=|[:=]|%3[aAdD])\s{0,64}+"
    # Pairs, as lists of headers and ordered dictionaries are shown: `('password', 'x')`.
    r"|\\{0,8}[\"']\s{0,2},\s{0,4}+(?=b?\\{0,8}[\"']|[\[({])"
    r"|(?P<tag>(?:\s[^<>]{0,128}+)?>)"
    r"|(?P<flag>[ \t]{1,8}+(?![\s-])))"
)

_PIECE = re.compile(
    r"(?P<quoted>\"(?:\\.|[^\"\\])*+(?:\"|\Z)|'(?:\\.|[^'\\])*+(?:'|\Z))"
    r"|(?P<escaped>(?P<slashes>\\{1,8}+)(?P<quote>[\"']).*?(?:(?P=slashes)(?P=quote)|\Z))"
    r"|(?P<bare>[^\s,;&\"'()\[\]{}\\]++|\\+)"
    r"|(?P<open>[(\[{])|(?P<close>[)\]}])",
    re.DOTALL,
)
_REST_OF_LINE = re.compile(r"[^\r\n]*")
_NOTHING = frozenset({"none", "null", "true", "false", "undefined"})
_TO_LINE_END = ("authorization", "cookie")
"""Headers whose values have spaces and semicolons in them."""


class Pairs:
    """Masks the values of secret names inside text.

    Args:
        keys: names looked for anywhere.
        words: names looked for as whole words.
        mask: what is written instead.
        is_secret: the last word about a name that was found, with all that stands around it.
    """

    __slots__ = ("_find", "_hints", "_is_secret", "_mask")

    def __init__(
        self,
        keys: Iterable[str],
        words: Collection[str],
        mask: str,
        is_secret: Callable[[str], bool],
    ) -> None:
        parts = [_PART.findall(key.lower()) for key in keys]
        # The longest part of a name is the test that nearly all texts fail.
        hints = [max(reversed(part), key=len) for part in parts if part]
        self._hints = tuple(dict.fromkeys([*hints, *(word.lower() for word in words)]))
        names = [r"[\s_.-]?".join(map(re.escape, part)) for part in parts if part]
        names += _as_words(words)
        self._find = (
            re.compile(f"((?:{'|'.join(names)}){_AROUND}){_SIGN}", re.IGNORECASE) if names else None
        )
        self._mask = mask
        self._is_secret = is_secret

    def scrub(self, text: str) -> str:
        """Return `text` with the values of secret names masked; the same object where there are none."""
        lower = text.lower()
        for hint in self._hints:
            if hint in lower:
                return self._scrub(text)
        return text

    def _scrub(self, text: str) -> str:
        if self._find is None:
            return text  # pragma: no cover  # without names there are no hints
        done, out = 0, ""
        found = self._find.search(text)
        while found is not None:
            end = found.end()
            if not _is_what_it_seems(text, found):
                end = found.end(1)
            elif self._is_secret(_whole_name(text, found)):
                stop = _stop(text, found)
                if text[end:stop].strip("\"'").lower() not in _NOTHING and stop > end:
                    out += text[done:end] + self._mask
                    done = end = stop
            found = self._find.search(text, end)
        return out + text[done:] if done else text


def _as_words(words: Collection[str]) -> Iterator[str]:
    """Yield patterns of words between other signs (`user_pwd`), and between other words (`userPwd`, `pwdHash`)."""
    whole = "|".join(map(re.escape, words))
    if whole:
        yield f"(?<![A-Za-z0-9])(?:{whole})(?![A-Za-z])"
        lower, title = (
            "|".join(re.escape(change(word)) for word in words) for change in (str.lower, str.title)
        )
        yield f"(?-i:(?<=[a-z0-9])(?:{title})(?![a-z])|(?<![A-Za-z0-9])(?:{lower}|{title})(?=[A-Z]))"


def _is_what_it_seems(text: str, found: re.Match[str]) -> bool:
    """Tell whether a name with `>` behind it is a tag's, and one with a space behind it an option's, like `--db-password`."""
    kind = found.lastgroup
    if kind not in {"tag", "flag"}:
        return True
    start = found.start()
    least = max(start - 48, 0)
    while start > least and (text[start - 1].isalnum() or text[start - 1] in "_-.:"):
        start -= 1
    return text[start : start + 2] == "--" if kind == "flag" else text[start - 1 : start] == "<"


def _stop(text: str, found: re.Match[str]) -> int:
    """Return where the value behind a name and its sign ends."""
    if found.lastgroup != "tag":
        return _end(text, found.end(), found[1].lower())
    closing = text.find("<", found.end())
    return len(text) if closing < 0 else closing


def _whole_name(text: str, found: re.Match[str]) -> str:
    """Return the name with what stands before it: `max_` of `max_tokens`."""
    start = found.start()
    least = max(start - 48, 0)
    while start > least and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        start -= 1
    return text[start : found.end(1)]


def _end(text: str, start: int, name: str) -> int:
    """Return where the value that begins at `start` ends."""
    if name.startswith(_TO_LINE_END) and text[start : start + 1] not in {'"', "'", "[", "{", "("}:
        found = _REST_OF_LINE.match(text, start)
        return len(text) if found is None else found.end()
    place, depth, size = start, 0, len(text)
    while place < size:
        piece = _PIECE.match(text, place)
        kind = None if piece is None else piece.lastgroup
        if piece is None or kind is None:  # a space, a comma, a semicolon, an ampersand
            if not depth:
                return place
            place += 1
            continue
        if kind == "close" and not depth:
            return place
        depth += (kind == "open") - (kind == "close")
        place = piece.end()
        if not depth and (kind in {"quoted", "escaped", "close"}):
            return place
    return place
