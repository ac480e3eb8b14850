"""Verdicts: only what proves that nothing ran may be sent again."""

from typing import Any

import pytest
from redis.connection import DefaultParser
from redis.exceptions import RedisError, ResponseError

from backendkit.core import errors
from backendkit.core.errors import AppError, NotSent, OutcomeUnknown, StoreUnavailable
from backendkit.stores.redis.verdict import REFUSALS, Raw, Verdict, code_of, judge
from tests.ground.single import Single

DIGEST = "script: 4b5e8c, on @user_script:1."

LINES = {
    "NOSCRIPT No matching script. Please use EVAL.": ("NOSCRIPT", Verdict.EVALUATE),
    "MOVED 3999 127.0.0.1:6381": ("", Verdict.MOVED),
    "ASK 3999 127.0.0.1:6381": ("", Verdict.ASK),
    "TRYAGAIN Multiple keys request during rehashing of slot": ("TRYAGAIN", Verdict.LATER),
    "LOADING Redis is loading the dataset in memory": ("LOADING", Verdict.LATER),
    "CLUSTERDOWN The cluster is down": ("CLUSTERDOWN", Verdict.ELSEWHERE),
    "CLUSTERDOWN Hash slot not served": ("CLUSTERDOWN", Verdict.ELSEWHERE),
    "MASTERDOWN Link with MASTER is down": ("MASTERDOWN", Verdict.ELSEWHERE),
    "READONLY You can't write against a read only replica.": ("READONLY", Verdict.ELSEWHERE),
    f"READONLY You can't write against a read only replica. {DIGEST}": ("READONLY", Verdict.ELSEWHERE),
    "ERR Error running script (call to f_4b5e8c): @user_script:1: -READONLY You can't write against a read only replica.":
        ("READONLY", Verdict.ELSEWHERE),
    "OOM command not allowed when used memory > 'maxmemory'.": ("OOM", Verdict.REFUSED),
    "MISCONF Redis is configured to save RDB snapshots": ("MISCONF", Verdict.REFUSED),
    "NOREPLICAS Not enough good replicas to write.": ("NOREPLICAS", Verdict.REFUSED),
    "BUSY Redis is busy running a script.": ("BUSY", Verdict.REFUSED),
    "NOAUTH Authentication required.": ("NOAUTH", Verdict.REFUSED),
    "WRONGPASS invalid username-password pair": ("WRONGPASS", Verdict.REFUSED),
    "CROSSSLOT Keys in request don't hash to the same slot": ("CROSSSLOT", Verdict.REFUSED),
    "NOPERM this user has no permissions to run the 'set' command": ("NOPERM", Verdict.UNKNOWN),
    f"WRONGTYPE Operation against a key holding the wrong kind of value {DIGEST}": ("WRONGTYPE", Verdict.UNKNOWN),
    "ERR Error compiling script (new function): user_script:1": ("ERR", Verdict.UNKNOWN),
    "ERR": ("ERR", Verdict.UNKNOWN),
    "NOSCRIPTS is another word": ("NOSCRIPTS", Verdict.UNKNOWN),
    "UNKILLABLE Sorry the script already executed write commands": ("UNKILLABLE", Verdict.UNKNOWN),
}  # fmt: skip


def refusal(line: str) -> Exception:
    """Return what redis-py makes of a server's error line."""
    error = DefaultParser.parse_error(line)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    assert isinstance(error, RedisError)
    return error


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=lambda each: str(each)[:20])
def test_a_servers_line_proves_what_it_proves(line: str, expected: tuple[str, Verdict]) -> None:
    """As redis-py hands it over, which takes some codes out of the text."""
    code, verdict = expected
    error = refusal(line)
    assert judge(error) is verdict
    if code:
        assert code_of(error) == code


@pytest.mark.parametrize("line", LINES, ids=lambda each: str(each)[:20])
def test_every_refusal_leaves_the_connection_in_step(line: str) -> None:
    """It is a whole reply, whatever redis-py's tree of exceptions makes of it."""
    assert isinstance(refusal(line), REFUSALS)


OURS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.StoreError)
]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_our_own_errors_are_what_they_say(kind: type[AppError]) -> None:
    """What names itself unsent may be looked at again; what does not may have run."""
    expected = Verdict.UNKNOWN
    if issubclass(kind, NotSent):
        expected = Verdict.UNREACHABLE if issubclass(kind, StoreUnavailable) else Verdict.REFUSED
    assert (
        judge(kind("NOSCRIPT, says a reason that quotes")) is expected or kind is errors.StoreError
    )


@pytest.mark.parametrize(
    "raw", [5, b"NOSCRIPT", b"", None, "NOSCRIPTS x", Exception("boom")], ids=repr
)
def test_what_is_no_refusal_proves_nothing(raw: Any) -> None:
    """A script that answers so has run."""
    odd: Raw = raw
    assert judge(odd) is Verdict.UNKNOWN


def test_every_verdict_says_what_it_means() -> None:
    """All differ, though an enumeration would take equal ones for one."""
    assert len(Verdict) == 8


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("EVALSHA", "0" * 40, 0), "NOSCRIPT"),
        (("EVAL", "return redis.call('LPUSH', KEYS[1], 1)", 1, "{k}"), "WRONGTYPE"),
        (("EVAL", "return {", 0), "ERR"),
        (("EVAL", "return redis.error_reply('MINE own')", 0), "MINE"),
    ],
)
def test_a_real_servers_lines_are_read_alike(
    redis_single: Single, namespace: str, command: tuple[Any, ...], code: str
) -> None:
    """The table above is no invention."""
    key = f"{namespace}k"
    server = redis_single.server
    server.command("SET", key, "text")
    words = [key if word == "{k}" else word for word in command]
    with pytest.raises(OSError, match=code) as caught:
        server.command(*words)
    error = refusal(str(caught.value))
    assert isinstance(error, ResponseError)
    assert code_of(error) == code


def test_unknown_is_the_verdict_of_doubt() -> None:
    """An outcome that nobody knows is never one that may be sent again."""
    assert judge(OutcomeUnknown("LOADING")) is Verdict.UNKNOWN
