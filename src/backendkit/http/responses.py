"""Requests and responses as caching sees them: what they say, and how a stored one answers."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import Any, NamedTuple, TypeAlias

from backendkit.http.cache_control import CacheControl
from backendkit.http.etags import etag_of, moment, not_modified

Headers: TypeAlias = list[tuple[str, str]]


class Asked(NamedTuple):
    """A request, as caching sees it.

    Attributes:
        method: `GET`, ...
        url: scheme, host, path and query.
        headers: names in lower case.
        known: whether the server knows who asks by what is in no header: a login of its own, a client's certificate.
    """

    method: str
    url: tuple[str, str, str, str]
    headers: Headers
    known: bool = False

    def lines(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key == name]

    def line(self, name: str) -> str | None:
        """Return the first value of a header, or None."""
        return next((value for key, value in self.headers if key == name), None)


def wishes(asked: Asked) -> CacheControl:
    """Return what a request says of caching, in either way."""
    lines = asked.lines("cache-control")
    if not lines and "no-cache" in (asked.line("pragma") or ""):
        return CacheControl(no_cache=True)
    return CacheControl.parse(lines)


class Life(NamedTuple):
    """For how long a response serves, in seconds.

    Attributes:
        fresh: as it is.
        revalidate: longer, while it is fetched anew.
        error: longer, instead of an error.
    """

    fresh: int
    revalidate: int
    error: int

    @property
    def stale(self) -> int:
        """How long it is kept after it was fresh."""
        return max(self.revalidate, self.error)


class Response(NamedTuple):
    """A whole response.

    Attributes:
        status: 200, ...
        headers: names as they were written.
        body: as it is sent.
    """

    status: int
    headers: Headers
    body: bytes

    def line(self, name: str) -> str | None:
        """Return the first value of a header, by its name in lower case, or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def says(self) -> CacheControl:
        """Its `Cache-Control`."""
        return CacheControl.parse(
            [value for key, value in self.headers if key.lower() == "cache-control"]
        )

    def lifetime(self, now_s: int) -> int | None:
        """Return the seconds that it is fresh in a shared cache (RFC 9111 section 4.2.1); None: it does not say."""
        says = self.says
        if says.s_maxage is not None:
            return says.s_maxage
        if says.max_age is not None:
            return says.max_age
        expires = self.line("expires")
        if expires is None:
            return None
        over, made = moment(expires), moment(self.line("date"))
        if over is None:  # `Expires: 0`, and whatever else is no date, is over
            return 0
        return max(0, over - (now_s if made is None else made))

    def age(self, now_s: int) -> int:
        """Return the seconds that it had lived when it came, by `Age` and `Date` (RFC 9111 section 4.2.3)."""
        told, made = self.line("age") or "", moment(self.line("date"))
        counted = int(told) if told.isascii() and told.isdigit() and len(told) < 12 else 0
        return max(counted, 0 if made is None else now_s - made)

    @property
    def complete(self) -> bool:
        """Whether its body is as long as it says; what was cut on its way here is not stored."""
        told = self.line("content-length")
        return told is None or told == str(len(self.body))

    @property
    def streams(self) -> bool:
        """Whether it is of a kind that comes bit by bit: nobody may wait for its end, nor its client for its beginning."""
        kind = (self.line("content-type") or "").partition(";")[0].strip().lower()
        return kind in _STREAMS

    @property
    def vary(self) -> list[str]:
        """What it depends on, in lower case and in order."""
        lines = ",".join(value for key, value in self.headers if key.lower() == "vary")
        return sorted({name.strip().lower() for name in lines.split(",") if name.strip()})

    def tagged(self) -> Response:
        """Return it with an `ETag`, if it is a whole success that has none."""
        if self.status != 200 or self.line("etag") is not None or not self.complete:
            return self
        return self._replace(headers=[*self.headers, ("ETag", etag_of(self.body))])

    def answer(self, asked: Asked) -> Response:
        """Return what the request gets: this, a 304 where its condition says so, without a body for HEAD."""
        if self.unchanged(asked):
            kept = [pair for pair in self.headers if pair[0].lower() not in _OF_CONTENT]
            return Response(304, kept, b"")
        return self._replace(body=b"") if asked.method == "HEAD" else self

    def unchanged(self, asked: Asked) -> bool:
        """Tell, by its headers alone, whether the client has it already."""
        return self.status == 200 and not_modified(
            asked.lines("if-none-match"),
            asked.line("if-modified-since"),
            self.line("etag"),
            self.line("last-modified"),
        )

    def lasting(self) -> Response:
        """Return it without what was said for one connection only (RFC 9111 section 3.1)."""
        named = {
            name.strip().lower()
            for key, value in self.headers
            if key.lower() == "connection"
            for name in value.split(",")
        }
        kept = [pair for pair in self.headers if pair[0].lower() not in _OF_CONNECTION | named]
        return self._replace(headers=kept)


def written(response: Response, at_us: int, life: Life, flag: str) -> dict[str, Any]:
    """Return a response as a store keeps it.

    Args:
        response: whole.
        at_us: when, in microseconds since 1970.
        life: for how long.
        flag: the key that is there as long as it is fresh.
    """
    try:
        body = {"text": response.body.decode()}
    except UnicodeDecodeError:
        body = {"base64": b64encode(response.body).decode()}
    headers = [list(pair) for pair in response.headers]
    return {
        "status": response.status, "headers": headers, "at": at_us, "life": list(life), "flag": flag, **body
    }  # fmt: skip


def read(record: Any) -> tuple[Response, int, Life, str] | None:
    """Return what was written, or None for anything else."""
    try:
        body = record["text"].encode() if "text" in record else b64decode(record["base64"])
        headers = [(str(name), str(value)) for name, value in record["headers"]]
        response = Response(int(record["status"]), headers, body)
        return response, int(record["at"]), Life(*map(int, record["life"])), str(record["flag"])
    except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
        return None


_OF_CONTENT = frozenset(
    {"content-length", "content-type", "content-encoding", "content-language", "content-range"}
)
"""What a 304 leaves out; all else it keeps (RFC 9110 section 15.4.5)."""

_OF_CONNECTION = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
"""What is never stored."""

_STREAMS = frozenset({
    "text/event-stream", "multipart/x-mixed-replace", "application/x-ndjson", "application/jsonl", "application/json-seq",
})  # fmt: skip

UNCACHED = Response(504, [("Content-Length", "0")], b"")
"""The answer where nothing but the cache was to be asked (RFC 9111 section 5.2.1.7)."""
