"""Requests whose `get_json` takes JSON and nothing else."""

from __future__ import annotations

from typing import Any

from flask import Request

from backendkit.errors import MalformedBody
from backendkit.http.body import strictly


class StrictRequest(Request):
    """Mixed into an application's request class: its JSON provider still parses, and we look over its shoulder."""

    @property
    def json_module(self) -> Any:
        """What Werkzeug parses bodies with."""
        return self

    @json_module.setter
    def json_module(self, provider: Any) -> None:
        self._provider = provider

    def loads(self, raw: bytes) -> Any:
        """Parse a body, strictly.

        Raises:
            ValueError: it is no JSON; an error that `get_json` expects, so that `silent=True` stays silent.
        """
        try:
            return strictly(raw, self._provider.loads)
        except MalformedBody as error:
            raise ValueError(error.reason) from error


def strict(kind: type[Request]) -> type[Request]:
    """Return a subclass of `kind` whose `get_json` refuses what only Python takes for JSON."""
    return type(kind.__name__, (StrictRequest, kind), {"__module__": kind.__module__})
