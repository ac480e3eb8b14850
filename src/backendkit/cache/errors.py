"""What values and stored entries can be wrong in.

    AppError
    ├── NotEncodable    500  CACHE_NOT_ENCODABLE   also a TypeError: the value does not come back from the codec as it was
    └── Corrupt         500  CACHE_CORRUPT         also a ValueError: stored bytes are none that this codec wrote

`Corrupt` is how decoding says "a miss". Neither shows anything of the value.
"""

from __future__ import annotations

from backendkit.core.errors import AppError


class NotEncodable(AppError, TypeError):
    """A codec cannot keep this value so that it comes back equal."""

    code = "CACHE_NOT_ENCODABLE"


class Corrupt(AppError, ValueError):
    """Stored bytes are damaged, cut, foreign, of another version, or sealed for another key."""

    code = "CACHE_CORRUPT"
