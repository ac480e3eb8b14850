"""What the demo plays: sections of scenes, each scene a few lines of data.

`Exchange` and `Race` serve most features. One that needs another kind of scene (stop a server, wait, look into a
log) writes a class with `what` and `play` in its own file under `scenes/`; nothing here has to know it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from examples.client.front import Answer, Front, Request
from examples.client.match import broken_promises, mismatches


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a scene on one front.

    Attributes:
        answers: what the front answered.
        faults: how that differs from what it should be; empty if all is well.
        beside: what else is worth a line in the transcript, like a record of the server's log.
    """

    answers: list[Answer]
    faults: list[str]
    beside: list[str] = field(default_factory=list)


class Scene(Protocol):
    """Something to play against a front."""

    @property
    def what(self) -> str:
        """One line for the transcript: what happens."""
        ...

    @property
    def send(self) -> Request:
        """The request that it is about, for the transcript."""
        ...

    def play(self, front: Front) -> Played:
        """Play it, and say what came of it."""
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """The scenes of one feature, in the order they are played.

    A scene may build on an earlier one of its section, not on another section: each can be played alone.
    """

    title: str
    scenes: Sequence[Scene]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What an answer should be.

    Attributes:
        status: the status.
        body: what the JSON body holds, as `match.mismatches` reads it; None expects nothing in particular.
        headers: by name in lower case, read in the same way.
        empty: whether the body must be empty.
    """

    status: int
    body: object = None
    headers: Mapping[str, object] = field(default_factory=dict)
    empty: bool = False

    def faults(self, answer: Answer) -> Iterator[str]:
        """Say how an answer differs from this."""
        yield from mismatches(self.status, answer.status, "status")
        yield from mismatches(self.headers, answer.headers, "header")
        if self.body is not None:
            yield from mismatches(self.body, answer.data, "body")
        if self.empty and answer.body:
            yield f"body: expected none, got {answer.body!r}"
        yield from broken_promises(answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer.

    Attributes:
        keep: values to take from the answer's body for later requests: name -> top-level key.
    """

    what: str
    send: Request
    expect: Expect
    keep: Mapping[str, str] = field(default_factory=dict)

    def play(self, front: Front) -> Played:
        """Send the request and look at the answer."""
        answer = front.send(self.send)
        faults = list(self.expect.faults(answer))
        data = answer.data
        for name, key in self.keep.items():
            if isinstance(data, dict) and key in data:
                front.kept[name] = str(data[key])
            else:
                faults.append(f"body.{key}: expected, to keep it as {name!r}, but it is not there")
        return Played([answer], faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The same request many times at once.

    Attributes:
        times: how many.
        expect: how many answers of each status there must be.
    """

    what: str
    send: Request
    times: int
    expect: Mapping[int, int]

    def play(self, front: Front) -> Played:
        """Send all requests at once and count the answers."""
        with ThreadPoolExecutor(self.times) as threads:
            answers = list(threads.map(front.send, [self.send] * self.times))
        counts = Counter(answer.status for answer in answers)
        unexpected = {status: 0 for status in counts if status not in self.expect}
        faults = list(mismatches({**self.expect, **unexpected}, counts, "statuses"))
        faults += [fault for answer in answers for fault in broken_promises(answer)]
        return Played(answers, faults)
