"""Comparing an answer with what it should be, and with another front's."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from examples.client.front import NO_ANSWER, PROBLEM, REQUEST_ID, Answer

ANY: Final = re.compile(r"(?s).*")
"""Expect a value, whichever."""

PROBES = ("/healthz", "/readyz")
"""What these answer is for machines, and has a shape of its own."""

OF_THE_SERVER = frozenset({"connection", "date", "keep-alive", "server", "transfer-encoding"})
"""Headers that uvicorn and gunicorn add, each in its way; the application has no say in them."""


def mismatches(expected: object, actual: object, where: str) -> Iterator[str]:
    """Say where `actual` is not as expected.

    A mapping expects its keys and allows others; a list expects its length; a pattern expects to match the whole
    of a value's text; anything else expects to be equal.
    """
    if isinstance(expected, Mapping):
        yield from _mapping_mismatches(expected, actual, where)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
            yield from mismatches(wanted, got, f"{where}[{index}]")
    elif isinstance(expected, re.Pattern):
        if not expected.fullmatch(str(actual)):
            yield f"{where}: expected a match of {expected.pattern!r}, got {actual!r}"
    elif expected != actual:
        yield f"{where}: expected {expected!r}, got {actual!r}"


def _mapping_mismatches(
    expected: Mapping[str, object], actual: object, where: str
) -> Iterator[str]:
    if not isinstance(actual, Mapping):
        yield f"{where}: expected an object, got {actual!r}"
        return
    for key, wanted in expected.items():
        if key in actual:
            yield from mismatches(wanted, actual[key], f"{where}.{key}")
        else:
            yield f"{where}.{key}: expected, but it is not there"


def broken_promises(answer: Answer) -> Iterator[str]:
    """Say which promise, made for every answer whatever was asked, this one breaks."""
    if answer.status == NO_ANSWER:
        yield f"no answer: {answer.body.decode()}"
        return
    if not answer.request_id:
        yield f"header.{REQUEST_ID}: every answer carries one, this one does not"
    if answer.status < 400 or not answer.body or answer.path in PROBES:
        return
    if answer.headers.get("content-type") == PROBLEM:
        yield from mismatches({**_PROBLEM, "status": answer.status}, answer.data, "body")
        return
    envelope = {
        "code": re.compile(r"[A-Z][A-Z0-9_]*"),
        "message": re.compile(r".+"),
        "requestId": answer.request_id,
        "timestamp": _MOMENT,
    }
    yield from mismatches({"error": envelope}, answer.data, "body")


def masked(answer: Answer) -> str:
    """Return an answer as text in which what must differ from request to request is hidden."""
    headers = [
        f"{name}: {_settled(name, value, answer.body)}"
        for name, value in sorted(answer.headers.items())
        if name not in OF_THE_SERVER
    ]
    body = answer.body.decode(errors="backslashreplace")
    text = "\n".join([str(answer.status), *headers, "", body])
    if answer.request_id:
        text = text.replace(answer.request_id, "<request id>")
        text = _URN.sub("<request id>", text)
    for pattern, shown in _DRAWN:
        text = pattern.sub(shown, text)
    return _DURATION.sub("<ms>", _MOMENT.sub("<time>", text))


def difference(name: str, answers: list[Answer], other: str, others: list[Answer]) -> list[str]:
    """Return a unified diff of two fronts' answers, empty where they are alike."""
    before = "\n---\n".join(sorted(map(masked, answers)))
    after = "\n---\n".join(sorted(map(masked, others)))
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), name, other, lineterm="")
    )


def _settled(name: str, value: str, body: bytes) -> str:
    """Leave the length of a body with a duration in it out, for it goes with the duration.

    Leave out a tag, which goes with the moments in the body.

    Leave out of an `Allow` what is each framework's own: Flask answers HEAD and OPTIONS unasked, FastAPI refuses.
    """
    if name == "content-length" and b'"durationMs":' in body:
        return "<length>"
    if name == "etag":
        return "<tag>"
    if name != "allow":
        return value
    methods = {method.strip() for method in value.split(",")}
    return ", ".join(sorted(methods - {"HEAD", "OPTIONS"}))


_DRAWN = (
    (re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+"), "<token>"),
    (re.compile(r'(?<=_at":)\d{10}'), "<time>"),
    (re.compile(r'(?<="session_id":")[\w-]{24}|(?<="sessions":\[{"id":")[\w-]{24}'), "<session>"),
    (re.compile(r"acc_\w{12}_\w{43}_\w{6}"), "<API key>"),
    (re.compile(r'(?<="id":")\w{12}(?=")'), "<key id>"),
    (re.compile(r"(?<=secret=)[A-Z2-7]+|(?<=\")\w{4}(?:-\w{4}){3,}(?=\")"), "<drawn>"),
    (re.compile(r'(?<="agent":")[^"]*'), "<agent>"),
)
"""What is drawn anew each time: tokens, ids, seeds; always of the same length."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DURATION = re.compile(r'(?<="durationMs":)[0-9.]+')
_PROBLEM = {
    "type": re.compile(r"urn:error:[A-Z0-9_]+"),
    "title": re.compile(r".+"),
    "detail": re.compile(r".+"),
    "instance": re.compile(r".+"),
    "code": re.compile(r"[A-Z][A-Z0-9_]*"),
}
_URN = re.compile(r"urn:uuid:[0-9a-f-]{36}")
"""How a problem (RFC 9457) spells a request id that is a UUID."""
