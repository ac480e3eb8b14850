"""A codec for tests: JSON as the standard library writes it."""

import json
from typing import Any

from backendkit.cache.errors import Corrupt


class PlainJson:
    """JSON."""

    def encode(self, value: Any) -> bytes:
        """Return the JSON text of a value."""
        return json.dumps(value, separators=(",", ":")).encode()

    def decode(self, data: bytes) -> Any:
        """Return the value of a JSON text."""
        try:
            return json.loads(data)
        except ValueError as error:
            raise Corrupt("no JSON") from error
