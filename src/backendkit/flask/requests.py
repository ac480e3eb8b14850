"""Requests whose `get_json` takes JSON and nothing else."""

from __future__ import annotations

import json
from typing import Any

from flask import Request

from backendkit.http.body import parse


class _StrictJson:
    """What Werkzeug wants of a JSON module, with our parser in it."""

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str | bytes) -> Any:
        return parse(text.encode() if isinstance(text, str) else text)


def strict(kind: type[Request]) -> type[Request]:
    """Return a subclass of `kind` whose `get_json` raises `MalformedBody` for what is not JSON.

    A request class with a JSON module of its own is left as it is.
    """
    if kind.json_module is not Request.json_module:
        return kind
    return type(kind.__name__, (kind,), {"json_module": _StrictJson, "__module__": kind.__module__})
