"""The specification of rotation once more, in the plainest Python: what the scripts are compared with."""

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ROTATED", "REPLAY", "REUSE", "EXPIRED", "GONE"]


@dataclass
class Family:
    """One session as the specification describes it."""

    generation: int
    rotated: int
    absolute: int


@dataclass
class Oracle:
    """All sessions of one user; times in microseconds, a clock that never steps."""

    grace: int
    idle: int
    absolute: int
    families: dict[str, Family] = field(default_factory=dict)

    def login(self, sid: str, now: int) -> None:
        """Begin a session, and forget those that have ended."""
        live = self.live(now)
        self.families = {name: f for name, f in self.families.items() if name in live}
        self.families[sid] = Family(1, now, now + self.absolute)

    def refresh(self, sid: str, generation: int, now: int) -> Outcome:
        """Present the token of a generation."""
        family = self.families.get(sid)
        if family is None:
            return "GONE"
        if now >= family.absolute or now - family.rotated >= self.idle:
            del self.families[sid]
            return "EXPIRED"
        if generation == family.generation:
            family.generation += 1
            family.rotated = now
            return "ROTATED"
        if generation == family.generation - 1 and now - family.rotated <= self.grace:
            return "REPLAY"
        del self.families[sid]
        return "REUSE"

    def live(self, now: int) -> set[str]:
        """Return the sessions that have not ended."""
        return {
            sid
            for sid, f in self.families.items()
            if now < f.absolute and now - f.rotated < self.idle
        }
