"""The access line: one record per request, made by whoever frames the request and told by nobody else.

Where lines are JSON and the application has no processors of its own, the line is written from prepared pieces, which
takes a quarter of the time of a record. Every value in it is either ours, escaped, or cleaned like any other.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TypeAlias

from backendkit.core import context
from backendkit.core.context import Request
from backendkit.logging.bridge import Structured
from backendkit.logging.configure import configured
from backendkit.logging.decide.sampling import kept
from backendkit.logging.decide.traces import trace_fields
from backendkit.logging.pipeline import RESERVED, Pipeline
from backendkit.logging.policy import LEVELS, AccessPolicy
from backendkit.logging.processors import TRACER, span_fields

LOGGER = "backendkit.access"
"""The logger whose level decides, and that tells the lines where logging was not configured here."""

EVENT = "request"
"""What an access line says has happened."""

_REMEMBERED = 1_024
_USUAL_ID = 36
_USUAL_PATH = 512
_OURS = frozenset(
    {"method", "route", "path", "status", "duration_ms", "bytes", "client", "sample_rate"}
    | RESERVED
    | {"request_id"}
)
"""What bound fields may not overwrite; one of such a name gets an underscore behind it."""

_Told: TypeAlias = tuple[str, str, int, int, str | None, int | None, str | None]
"""What a frame says of one request: method, path, status, microseconds, route, bytes, client. A named one takes 0.3 us more."""


class AccessLog:
    """Writes access lines. One belongs to a kit; safe to use from any thread.

    It finds the configuration of this process when it first writes. Without one, lines go to the logger `backendkit.access`
    of the standard library, and are seen where it, or the root logger, has a handler. That logger's level counts in
    either case.

    Args:
        policy: which lines are written; None: `AccessPolicy()`, all of them.
        chance: draws from 0..1 for sampling; None: the request's id decides, so that all services keep the same requests.
    """

    __slots__ = ("_chance", "_heads", "_levels", "_logger", "_pipeline", "_selects", "policy")

    def __init__(
        self, policy: AccessPolicy | None = None, *, chance: Callable[[], float] | None = None
    ) -> None:
        self.policy = policy or AccessPolicy()
        self._chance = chance
        self._selects = self.policy.sample < 1 or bool(self.policy.exclude)
        self._logger = logging.getLogger(LOGGER)
        if not self._logger.handlers:
            # Where nobody configures logging, Python prints warnings, and a 404 is one. These lines are for who asks for them.
            self._logger.addHandler(logging.NullHandler())
        self._levels = tuple((level, LEVELS[level]) for level in self.policy.levels)
        self._pipeline: Pipeline | None = None
        self._heads: dict[tuple[str, str, str | None], str] = {}

    def write(
        self,
        request: Request | None,
        method: str,
        path: str,
        status: int,
        duration_us: int,
        *,
        route: str | None = None,
        size: int | None = None,
        client: str | None = None,
    ) -> None:
        """Write the line of one request, unless the policy leaves it out. Never raises.

        Args:
            request: what was current while it ran; None: whatever the context holds now.
            method: as the client sent it.
            path: without the query, which may hold secrets; what looks like one is masked in the path as well.
            status: the answer's; 499 where the client left before there was one.
            duration_us: from the first byte to the last, in microseconds.
            route: the template that matched, `/users/{id}`; None: none did.
            size: bytes of the answer's body.
            client: the address that the request came from.
        """
        told = method, path, status, duration_us, route, size, client
        try:
            self._write(request, told)
        except Exception:  # noqa: BLE001 - a status that is no number, a chance that raises: the request is over, and is told
            self._record("error", None, told, {})

    def _write(self, request: Request | None, told: _Told) -> None:
        if request is None:
            fields: Mapping[str, Any] = context.fields()
            request_id = fields.get("request_id")
        else:
            fields, request_id = request.fields, request.id
        _, _, status, duration_us, _, _, _ = told
        level, number = self._levels[0 if status >= 500 else 1 if status >= 400 else 2]
        if not self._logger.isEnabledFor(number):
            return
        if self._selects and not self._keeps(told, request_id):
            return
        pipeline = self._pipeline
        if pipeline is None or pipeline.closed:
            pipeline = self._find()
        if pipeline is not None and pipeline.direct and type(status) is type(duration_us) is int:
            line = self._line(pipeline, level, request_id, told, fields)
            if len(line) <= pipeline.cleaner.limits.line:
                pipeline.writer.write(line)
                return
        self._record(level, request_id, told, fields)

    def _keeps(self, told: _Told, request_id: str | None) -> bool:
        _, path, status, duration_us, route, _, _ = told
        return kept(
            self.policy,
            status=status,
            duration_us=duration_us,
            request_id=request_id,
            places=(path, route),
            chance=self._chance,
        )

    def _line(
        self,
        pipeline: Pipeline,
        level: str,
        request_id: str | None,
        told: _Told,
        fields: Mapping[str, Any],
    ) -> bytes:
        """Return the line of one request, from prepared pieces."""
        cleaner = pipeline.cleaner
        method, path, status, duration_us, route, size, client = told
        head = self._heads.get((level, method, route)) or self._head(pipeline, level, method, route)
        easy = len(path) <= _USUAL_PATH and path.isascii()
        path = quoted(cleaner.secrets.text(path) if easy else cleaner.text(path))
        more = "" if size is None else f',"bytes":{int(size)}'
        if client is not None:
            more += f',"client":{quoted(cleaner.text(client))}'
        if request_id is not None:
            if len(request_id) > _USUAL_ID or "eyJ" in request_id or not request_id.isascii():
                request_id = cleaner.text(request_id)
            more += f',"request_id":{quoted(request_id)}'
        if self._selects:
            more += self._weight(status, duration_us)
        if fields or TRACER in sys.modules:
            more += _members(pipeline, _around(fields))
        return (
            f'{{"timestamp":"{pipeline.timestamps.text()}"{head}{path},"status":{status}'
            # Not divided: writing a float out takes longer than all the rest of this.
            f',"duration_ms":{duration_us // 1000}.{duration_us % 1000:03}{more}}}\n'
        ).encode()

    def _head(self, pipeline: Pipeline, level: str, method: str, route: str | None) -> str:
        """Return what lines of this level, method and route have in common, and remember it."""
        clean = pipeline.cleaner.text
        place = "" if route is None else f',"route":{quoted(clean(route))}'
        head = f',"level":"{level}","event":"{EVENT}","logger":"{LOGGER}","method":{quoted(clean(method))}{place},"path":'
        if (
            len(self._heads) >= _REMEMBERED
        ):  # methods are what clients send, and there is no end to them
            self._heads = {}
        self._heads[level, method, route] = head
        return head

    def _weight(self, status: int, duration_us: int) -> str:
        """Say of how many requests a line that was drawn stands for."""
        policy = self.policy
        if policy.sample >= 1 or status >= policy.keep_status or duration_us >= policy.slow_us:
            return ""
        return f',"sample_rate":{policy.sample}'

    def _record(
        self, level: str, request_id: str | None, told: _Told, fields: Mapping[str, Any]
    ) -> None:
        """Tell a request as any other record, where there is no shorter way."""
        method, path, status, duration_us, route, size, client = told
        said: dict[str, Any] = {
            "method": method,
            "route": route,
            "path": path,
            "status": status,
            "duration_ms": _ms(duration_us),
            "bytes": size,
            "client": client,
            "request_id": request_id,
        }
        said = {key: value for key, value in said.items() if value is not None}
        said.update(_around(fields))
        pipeline = self._find()
        if pipeline is None:
            with suppress(Exception):  # somebody else's filters and handlers
                self._logger.log(LEVELS[level], Structured(EVENT, said))
        else:
            pipeline.record(level, EVENT, said, logger=LOGGER, context_fields={})

    def _find(self) -> Pipeline | None:
        found = configured()
        self._pipeline = None if found is None else found.pipeline
        return self._pipeline


def _members(pipeline: Pipeline, extra: Mapping[str, Any]) -> str:
    """Return fields as members of a JSON object that has some before them."""
    if not extra or pipeline.dump is None:
        return ""
    return "," + pipeline.dump(pipeline.cleaner.fields(extra))[1:-1].decode()


def _around(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bound fields and the ids of the trace, none of them posing as what the line itself says."""
    span = span_fields()
    if not fields and span is None:
        return {}
    found = {
        f"{key}_" if key in _OURS else key: value
        for key, value in fields.items()
        if key not in {"request_id", "traceparent"}
    }
    found.update(span or trace_fields(fields.get("traceparent")))
    return found


def _ms(duration_us: Any) -> float | None:
    return duration_us / 1000 if isinstance(duration_us, int | float) else None
