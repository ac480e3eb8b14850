"""From URL to store: every scheme, every option; each wrong one is named, and no password shows."""

import pickle
import re
import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.stores import FailurePolicy, Guarded, MemoryStore, Store, connect
from backendkit.stores.redis import Address, Cluster, Dial, RedisStore, SentinelMaster, Single

PASSWORD = "hunter2"


def topology(store: Store) -> Any:
    """Return how a store that `connect` made reaches its servers."""
    assert isinstance(store, Guarded)
    assert isinstance(store.store, RedisStore)
    return store.store._shared.topology


def dial(url: str, **options: Any) -> Dial:
    """Return the options of its connections."""
    found = topology(connect(url, **options)).dial
    assert isinstance(found, Dial)
    return found


def where(url: str) -> object:
    """Return what a URL's topology reaches."""
    found = topology(connect(url))
    if isinstance(found, Cluster):
        return found._nodes
    return found._sentinels if isinstance(found, SentinelMaster) else found._address


# Schemes


def test_memory_needs_nothing() -> None:
    """Bounds, and the clock of whoever shares it."""
    clock = ManualClock()
    store = connect("memory://?max_entries=5&max_bytes=2048", clock=clock)
    assert isinstance(store, MemoryStore)
    assert (store._max_entries, store._max_bytes, store.clock) == (5, 2048, clock)
    assert isinstance(connect("memory:"), MemoryStore)
    assert isinstance(connect("memory://", max_entries=7), MemoryStore)


@pytest.mark.parametrize(
    ("url", "kind", "reached"),
    [
        ("redis://h", Single, Address("h", 6379)),
        ("redis://h:1/", Single, Address("h", 1)),
        ("REDIS://h:65535", Single, Address("h", 65535)),
        ("redis://10.0.0.1:7/3", Single, Address("10.0.0.1", 7)),
        ("redis://[::1]", Single, Address("::1", 6379)),
        ("rediss://[fe80::1]:7", Single, Address("fe80::1", 7)),
        ("unix:///run/redis.sock", Single, Address("/run/redis.sock", 0)),
        ("unix://u:p@/run/a%20b.sock", Single, Address("/run/a b.sock", 0)),
        ("redis+sentinel://a/s", SentinelMaster, [Address("a", 26379)]),
        ("rediss+sentinel://a:1,b,[::1]:2/s", SentinelMaster, [Address("a", 1), Address("b", 26379), Address("::1", 2)]),
        ("redis+cluster://a:1,b", Cluster, [Address("a", 1), Address("b", 6379)]),
        ("rediss+cluster://a/", Cluster, [Address("a", 6379)]),
    ],
)  # fmt: skip
def test_a_url_names_servers(url: str, kind: type, reached: object) -> None:
    """Of each topology; a missing port is the usual one."""
    store = connect(url)
    assert type(topology(store)) is kind
    try:
        assert where(url) == reached
    except InvalidArgument:  # a Python whose urlsplit takes no list with brackets
        assert "[" in url
    assert dial(url).tls is not None or not url.lower().startswith("rediss")


def test_nothing_is_sent_before_the_first_operation() -> None:
    """Nobody listens there."""
    store = connect("redis://127.0.0.1:1/")
    assert (store.stats().connects, store.stats().connections) == (0, 0)
    store.close()


@pytest.mark.parametrize(("url", "within"), [("redis://h", 1.0), ("redis://h?timeout=2", 8.0)])
def test_slow_timeouts_open_the_guard_as_well(url: str, within: float) -> None:
    """Two in a row count as two, though the second comes a whole timeout after the first."""
    store = connect(url)
    assert isinstance(store, Guarded)
    assert store._policy == FailurePolicy(within=within)


def test_hooks_policy_and_clock_are_handed_on() -> None:
    """To the guard around the store."""
    hooks, policy, clock = Hooks(), FailurePolicy(timeouts=9), ManualClock()
    store = connect("redis://h", hooks=hooks, policy=policy, clock=clock, now=lambda: 7)
    assert isinstance(store, Guarded)
    assert (store._hooks, store._policy, store.clock) == (hooks, policy, clock)


# Options


def test_options_without_a_word_are_the_documented_ones() -> None:
    """A quarter of a second, database 0, RESP2."""
    assert dial("redis://h") == Dial(None, None, 0, 2, None, 0.25, 0.25)


@pytest.mark.parametrize(
    ("option", "value", "attribute", "expected"),
    [
        ("timeout", "0.001", "timeout", 0.001),
        ("timeout", "60", "timeout", 60),
        ("timeout", ".5", "timeout", 0.5),
        ("timeout", "5.", "timeout", 5),
        ("connect_timeout", "1.5", "connect_timeout", 1.5),
        ("db", "15", "db", 15),
        ("protocol", "3", "protocol", 3),
        ("username", "app", "username", "app"),
        ("password", PASSWORD, "password", PASSWORD),
        ("username", "", "username", None),
        ("password", "", "password", None),
    ],
)
def test_an_option_stands_in_the_query_or_comes_by_keyword(
    option: str, value: str, attribute: str, expected: object
) -> None:
    """As text in either; by keyword as what it is, too."""
    assert getattr(dial(f"redis://h?{option}={value}"), attribute) == expected
    assert getattr(dial("redis://h", **{option: value}), attribute) == expected
    if expected is not None:
        assert getattr(dial("redis://h", **{option: expected}), attribute) == expected


def test_a_keyword_wins() -> None:
    """Over the query, over the user before the host, over the path."""
    url = "redis://u:p@h/1?timeout=1&db=2"
    found = dial(url, timeout=timedelta(seconds=3), db=3, username="me", password="mine")
    assert (found.timeout, found.db, found.username, found.password) == (3, 3, "me", "mine")
    found = dial(url)
    assert (found.timeout, found.db, found.username, found.password) == (1, 2, "u", "p")
    assert dial("redis://h/0", db=2).db == 2
    assert dial("redis://h/7").db == 7
    assert dial("redis+sentinel://h/s?db=4").db == 4


@given(username=st.text(max_size=8), password=st.text(max_size=12))
def test_a_user_before_the_host_is_unescaped(username: str, password: str) -> None:
    """Whatever stands in a password, escaped as URLs want it."""
    found = dial(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@h")
    assert (found.username, found.password) == (username or None, password or None)


def test_sentinels_have_users_of_their_own() -> None:
    """The database is the master's alone."""
    found = topology(
        connect("redis+sentinel://u:p@h/s?db=3&sentinel_username=su&sentinel_password=sp")
    )
    assert (found.dial.username, found.dial.password, found.dial.db) == ("u", "p", 3)
    assert (
        found._sentinel_dial.username,
        found._sentinel_dial.password,
        found._sentinel_dial.db,
    ) == ("su", "sp", 0)
    assert found._service == "s"


def test_tls_options_reach_the_context() -> None:
    """And need no file before the first connection."""
    found = dial(
        "rediss://h?tls_ca=ca&tls_cert=c&tls_key=k&tls_verify=no&tls_check_hostname=false"
    ).tls
    assert found is not None
    assert found._options == ("ca", "c", "k", False, False)
    for yes in ("yes", "true", "1", True):
        again = dial("rediss://h", tls_verify=yes).tls
        assert again is not None
        assert again._options == (None, None, None, True, True)


# What is wrong


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("", {}, "url must begin with one of memory, redis, rediss, unix, .*, got ''"),
        ("h:6379", {}, "url must begin with one of .*, got 'h'"),
        ("postgres://h", {}, "url must begin with one of .*, got 'postgres'"),
        ("redis+tls://h", {}, "url must begin with one of"),
        ("memory://h", {}, "url must name nothing after memory://"),
        ("memory:///x", {}, "url must name nothing after memory://"),
        ("memory://?max_entries=0", {}, r"max_entries must be in 1\.\..*, got 0"),
        ("memory://?max_entries=x", {}, "max_entries must be a whole number, got 'x'"),
        ("memory://?max_entries=-1", {}, "max_entries must be a whole number, got '-1'"),
        ("memory://?max_bytes=1023", {}, r"max_bytes must be in 1024\.\."),
        ("memory://?timeout=1", {}, r"url must have no options but those .*, got \['timeout'\]"),
        ("redis://", {}, "url must list hosts as host, host:port or"),
        ("redis:///0", {}, "url must list hosts"),
        ("redis://a,", {}, "url must list hosts"),
        ("redis+cluster://a,,b", {}, "url must list hosts"),
        ("redis://a,b", {}, r"url must name one host; several need \+sentinel or \+cluster, got 2"),
        ("redis://a..b", {}, "url must list hosts by names that DNS can hold"),
        ("redis+cluster://h," + "a" * 64, {}, "url must list hosts by names that DNS can hold"),
        ("redis://h:0", {}, "url must list hosts"),
        ("redis://h:65536", {}, "url must list hosts"),
        ("redis://h:x", {}, "url must list hosts"),
        ("redis://h:", {}, "url must list hosts"),
        ("redis://::1", {}, "url must list hosts"),
        ("redis://[::1", {}, "url must be a URL"),
        ("redis://h/x", {}, "url must have a database number as its path"),
        ("redis://h/0/1", {}, "url must have a database number"),
        ("redis://h/%D9%A3", {}, "url must have a database number"),
        ("redis://h/" + "9" * 5_000, {}, "db must be a whole number"),
        ("redis://h/0#x", {}, "url must have no fragment"),
        ("unix://", {}, "url must name an absolute path: unix:///run/redis.sock"),
        ("unix:///", {}, "url must name an absolute path"),
        ("unix://run/redis.sock", {}, "url must name an absolute path"),
        ("redis+sentinel://h", {}, "url must name the service after the hosts, got ''"),
        ("redis+cluster://h/1", {}, "url must name no database: a Cluster has one"),
        ("redis+cluster://h?db=1", {}, "url must name no database: a Cluster has one"),
        ("redis://h?db=-1", {}, "db must be a whole number, got '-1'"),
        ("redis://h?db=", {}, "db must be a whole number, got ''"),
        ("redis://h", {"db": 1.0}, "db must be a whole number, got 1.0"),
        ("redis://h?protocol=4", {}, r"protocol must be in 2\.\.3, got 4"),
        ("redis://h?timeout=0", {}, r"timeout must be in 0\.001\.\.60 seconds, got 0"),
        ("redis://h?timeout=61", {}, r"timeout must be in 0\.001\.\.60 seconds, got 61"),
        ("redis://h?timeout=1e1", {}, "timeout must be a timedelta or finite seconds, got '1e1'"),
        ("redis://h?timeout=nan", {}, "timeout must be a timedelta or finite seconds"),
        ("redis://h?timeout=" + "9" * 400, {}, "timeout must be a timedelta or finite seconds"),
        ("redis://h", {"timeout": True}, "timeout must be a timedelta or finite seconds, got True"),
        ("redis://h?connect_timeout=", {}, "connect_timeout must be"),
        ("rediss://h?tls_verify=maybe", {}, "tls_verify must be yes or no, got 'maybe'"),
        ("rediss://h", {"tls_verify": 1}, "tls_verify must be yes or no, got 1"),
        ("redis://h?tls_ca=x", {}, r"url must have no options but those .*, got \['tls_ca'\]"),
        (
            "redis://h?max_entries=1&tiemout=1",
            {},
            r"url must have no options .*got \['max_entries', 'tiemout'\]",
        ),
        (
            "redis://h?sentinel_password=x",
            {},
            r"url must have no options .*got \['sentinel_password'\]",
        ),
        ("redis://h", {"username": 7}, "username must be text, got <class 'int'>"),
        (
            "redis://h",
            {"password": PASSWORD.encode()},
            "password must be text, got <class 'bytes'>",
        ),
        ("redis://h", {"password": False}, "password must be text, got <class 'bool'>"),
    ],
)
def test_what_is_wrong_is_named(url: str, options: dict[str, Any], said: str) -> None:
    """The option or the part of the URL, and the rule."""
    with pytest.raises(InvalidArgument, match=f"^{said}"):
        connect(url, **options)


SECRETS = ["s3cr/et", "s3cr#et", "s3cr?et", "s3cr@et", "s3cr:et", "s3cr[et", "s3cr]et", "s3cr%et", "s3cr&et=1",
           "s3cr℀et", "s3cr,et", "s3cr et", "12#s3cr", "12/s3cr", "12/3?s3cr", "1/2?s3&cr"]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "scheme", ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "memory"]
)
@pytest.mark.parametrize(
    "form", ["{}://user:{}@h:6379/0", "{}://:{}@h", "{}://h?password={}&timeout=x", "{}://{}@h/s"]
)
def test_a_password_that_was_not_escaped_stays_out_of_the_error(
    form: str, scheme: str, secret: str
) -> None:
    """Wherever the URL then seems to break: in no text, no data, no cause, no traceback."""
    caught: InvalidArgument | None = None
    try:
        assert "s3cr" not in repr(connect(form.format(scheme, secret)))
    except InvalidArgument as error:
        caught = error
    if caught is None:
        return
    shown = [str(caught), repr(caught), caught.text, str(vars(caught)), repr(pickle.dumps(caught))]
    assert caught.__cause__ is None
    assert caught.__context__ is None
    for text in shown:
        assert not re.search("s3|cr(?!i|a)|et=|et@", text.replace("characters", ""))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://u:{PASSWORD}@h",
        f"redis://h?password={PASSWORD}",
        f"redis+sentinel://u:{PASSWORD}@h/s?sentinel_password={PASSWORD}",
        f"rediss+cluster://u:{PASSWORD}@h",
    ],
)
def test_a_password_shows_nowhere(url: str) -> None:
    """In no repr of a store or its parts, and in no statistics."""
    store = connect(url)
    found = topology(store)
    for thing in (
        store,
        store.aio,
        found,
        found.dial,
        store.stats(),
        [found.dial],
        {"a": found.dial},
    ):
        assert PASSWORD not in repr(thing)
        assert PASSWORD not in str(thing)
    assert found.dial.password == PASSWORD
    with pytest.raises(InvalidArgument) as caught:
        connect(url, surprise=PASSWORD)
    assert PASSWORD not in str(vars(caught.value)) + str(caught.value)


BLOCKED = """
import sys
sys.modules["redis"] = None
from backendkit.stores import MemoryStore, connect
assert isinstance(connect("memory://"), MemoryStore)
try:
    connect("rediss+cluster://u:hunter2@h")
except ImportError as error:
    print(type(error).__name__, error)
"""


def test_without_redis_py_the_extra_is_named() -> None:
    """The memory store works all the same."""
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.stderr == ""
    assert done.stdout == (
        "MissingExtra a rediss+cluster store needs redis-py: pip install 'backendkit[redis]'\n"
    )


def test_a_missing_redis_py_is_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an ImportError, as Python would have it."""
    monkeypatch.setitem(sys.modules, "backendkit.stores.redis", None)
    with pytest.raises(ImportError, match="a redis store needs redis-py") as caught:
        connect("redis://h")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
