"""Choosing argon2id parameters for a machine: as much memory as the budget allows, then as many passes as the time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from statistics import median

from backendkit.core import checks
from backendkit.core.clock import Clock, SystemClock
from backendkit.passwords.profiles import OWASP, Profile

LARGEST_MEMORY_MIB = 1_024
"""More memory than this per hash buys little against an attacker and costs page faults on every login."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        profile: the parameters.
        hash_ms: what a hash takes with them, alone on this machine.
        logins_per_second: what `concurrency` workers get through.
        memory_mib: what they take together.
        weaker_than_owasp: whether the target or the budget forced less than the OWASP minimum.
    """

    profile: Profile
    hash_ms: float
    logins_per_second: float
    memory_mib: float
    weaker_than_owasp: bool

    def report(self) -> str:
        """Return the findings as a few lines of text."""
        p = self.profile
        lines = [
            f"Profile(memory_kib={p.memory_kib}, iterations={p.iterations}, parallelism={p.parallelism})",
            f"one hash: {self.hash_ms:.0f} ms, {p.memory_kib / 1024:.0f} MiB",
            f"all workers: {self.logins_per_second:.0f} logins/s, {self.memory_mib:.0f} MiB",
        ]
        if self.weaker_than_owasp:
            lines.append(
                "weaker than the OWASP minimum (19 MiB, two passes): raise the target or the budget"
            )
        return "\n".join(lines)


def calibrate(
    target_ms: float = 100,
    *,
    memory_mib: int = 256,
    concurrency: int | None = None,
    clock: Clock | None = None,
) -> Calibration:
    """Measure this machine and return parameters (the procedure of RFC 9106 section 4, with one lane).

    Args:
        target_ms: how long one hash may take, 1..10,000.
        memory_mib: for all workers together.
        concurrency: workers; None: as many as cores.
        clock: measures.

    Takes about twenty times the target.
    """
    target_us = checks.duration_us(
        "target_ms", target_ms / 1000, least_us=1_000, most_us=10_000_000
    )
    workers = checks.whole("concurrency", concurrency or os.cpu_count() or 1, least=1)
    each_mib = max(checks.whole("memory_mib", memory_mib, least=1) // workers, 1)
    source = clock or SystemClock()
    memory = min(each_mib, LARGEST_MEMORY_MIB) << 10
    while memory > 1024 and _time_us(Profile(memory_kib=memory, iterations=1), source) > target_us:
        memory //= 2
    once = max(_time_us(Profile(memory_kib=memory, iterations=1), source), 1)
    passes = max(min(int(target_us // once), 64), 1)
    profile = Profile(memory_kib=memory, iterations=passes)
    taken = max(_time_us(profile, source), 1)
    return Calibration(
        profile,
        hash_ms=taken / 1000,
        logins_per_second=workers * 1_000_000 / taken,
        memory_mib=workers * memory / 1024,
        weaker_than_owasp=profile.work < OWASP.work,
    )


def _time_us(profile: Profile, clock: Clock) -> float:
    from backendkit.passwords import argon  # noqa: PLC0415 - argon2 loads when it is first needed

    times: list[int] = []
    for _ in range(3):
        begun = clock.mono_us()
        argon.make(b"calibration", profile, b"0123456789abcdef")
        times.append(clock.mono_us() - begun)
    return median(times)
