"""What values, stored entries and loads can be wrong in.

    AppError
    ├── NotEncodable    500  CACHE_NOT_ENCODABLE   also a TypeError: the value comes back from no codec and no copy as it was
    ├── Corrupt         500  CACHE_CORRUPT         also a ValueError: stored bytes are none that this codec wrote
    ├── NestedLoad      500  CACHE_NESTED_LOAD     also a RuntimeError: a loader asked for the key that it loads
    └── DeadlineExceeded
        └── LoadTimeout 504  CACHE_LOAD_TIMEOUT    a loader took longer than `hard_timeout`

`Corrupt` is how decoding says "a miss". Neither shows anything of the value.
"""

from __future__ import annotations

from backendkit.core.errors import AppError, DeadlineExceeded


class NotEncodable(AppError, TypeError):
    """A codec cannot keep this value so that it comes back equal, or, without one, it cannot be copied."""

    code = "CACHE_NOT_ENCODABLE"


class Corrupt(AppError, ValueError):
    """Stored bytes are damaged, cut, foreign, of another version, or sealed for another key."""

    code = "CACHE_CORRUPT"


class NestedLoad(AppError, RuntimeError):
    """A loader asked the cache for the very key that it loads: it would wait for itself."""

    code = "CACHE_NESTED_LOAD"


class LoadTimeout(DeadlineExceeded):
    """A loader took longer than `hard_timeout`. It goes on behind, and what it brings is stored."""

    code = "CACHE_LOAD_TIMEOUT"
