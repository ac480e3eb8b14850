"""Keys and secrets for servers that live as long as a demo: one set for all fronts, so that they answer alike."""

import json
from secrets import token_hex
from typing import Any

from backendkit.tokens import KeyRing


def settings() -> dict[str, dict[str, Any]]:
    """Return settings of tokens and passwords, for `Settings(**...)`; hashing is cheap, for a demo only."""
    return {
        "tokens": {
            "keys": json.dumps(KeyRing.generate("EdDSA").private_jwks()),
            "secrets": f"s1:{token_hex(32)}",
            "issuer": "https://accounts.example",
            "audience": "accounts",
        },
        "passwords": {"memory_mib": 8, "iterations": 1, "legacy": "bcrypt", "failure_time": 0.05},
    }


def variables() -> dict[str, str]:
    """Return the same as variables of the environment."""
    return {
        f"BACKENDKIT_{group}__{name}".upper(): str(value)
        for group, named in settings().items()
        for name, value in named.items()
    }
