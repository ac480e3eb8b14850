"""Parameters of argon2id, named after who recommends them."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One set of parameters.

    Attributes:
        memory_kib: KiB of memory, from 8 per lane.
        iterations: passes over it.
        parallelism: lanes. More than one helps a lone attempt on an idle machine; on a busy server the threads of
            many attempts only get in each other's way (measured: 821 ms with four, 454 ms with one).
        salt_bytes: RFC 9106 section 3.1 recommends 16.
        hash_bytes: of the result.
    """

    memory_kib: int
    iterations: int
    parallelism: int = 1
    salt_bytes: int = 16
    hash_bytes: int = 32

    def __post_init__(self) -> None:
        lanes = checks.whole("parallelism", self.parallelism, least=1, most=64)
        checks.whole("memory_kib", self.memory_kib, least=8 * lanes, most=16 << 20)
        checks.whole("iterations", self.iterations, least=1, most=1_000)
        checks.whole("salt_bytes", self.salt_bytes, least=16, most=64)
        checks.whole("hash_bytes", self.hash_bytes, least=16, most=128)

    @property
    def work(self) -> int:
        """KiB times passes: what an attacker has to pay for each guess."""
        return self.memory_kib * self.iterations


SERVER = Profile(memory_kib=64 << 10, iterations=3)
"""RFC 9106's second recommendation with one lane, for servers that check many passwords at once. The default."""

RFC_9106_LOW_MEMORY = Profile(memory_kib=64 << 10, iterations=3, parallelism=4)
"""RFC 9106 section 4, second recommended option."""

RFC_9106_HIGH_MEMORY = Profile(memory_kib=2 << 20, iterations=1, parallelism=4)
"""RFC 9106 section 4, first recommended option: 2 GiB."""

OWASP = Profile(memory_kib=19 << 10, iterations=2)
"""The minimum of the OWASP Password Storage Cheat Sheet: 19 MiB, two passes."""
