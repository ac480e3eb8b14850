"""`backendkit cache` against a running Redis: what it tells is there, and what it drops is gone everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backendkit.cache import Cache, JsonCodec
from backendkit.cli.main import main
from backendkit.http import CacheRule, WsgiCache
from backendkit.stores import connect
from backendkit.testing import WsgiClient
from tests.ground.single import Single
from tests.ground.stores import PATIENT_S


@pytest.fixture
def url(redis_single: Single) -> str:
    """A store's URL."""
    return f"{redis_single.url}?timeout={PATIENT_S}"


@pytest.fixture
def space(request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own: what was cleared is counted until Redis drops it."""
    return f"command{hash(request.node.name):x}"


@pytest.fixture
def cache(url: str, space: str) -> Iterator[Cache]:
    """An application's cache."""
    store = connect(url)
    cache = Cache(store, namespace=space, codec=JsonCodec())
    yield cache
    cache.close()
    store.close()


def told(capsys: pytest.CaptureFixture[str], space: str, *arguments: str) -> str:
    """Return what the command prints."""
    assert main(["cache", *arguments, "--namespace", space]) == 0
    return capsys.readouterr().out


def test_it_tells_and_drops(
    cache: Cache, url: str, space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts, one entry's state, and the end of entries by key, by tag and altogether."""
    for name in "abc":
        cache.set(name, {"name": name}, ttl=60, tags=["letters"])
    assert told(capsys, space, "stats", "--url", url).startswith("3 entries, ")
    out = told(capsys, space, "inspect", "a", "z", "--url", url)
    assert out.startswith("a: fresh, 14 bytes, fresh for ")
    assert out.endswith(", tags letters\nz: absent\n")
    assert told(capsys, space, "invalidate", "a", "--url", url) == "invalidated a\n"
    assert told(capsys, space, "inspect", "a", "--url", url) == "a: absent\n"
    assert (
        told(capsys, space, "invalidate", "--tag", "letters", "--url", url)
        == "invalidated letters\n"
    )
    assert told(capsys, space, "inspect", "b", "--url", url).startswith("b: dropped, ")
    cache.set("d", 1, ttl=60)
    assert told(capsys, space, "clear", "--url", url) == f"cleared {space}\n"
    assert told(capsys, space, "inspect", "d", "--url", url) == "d: absent\n"


def test_another_process_no_longer_has_what_was_dropped(
    cache: Cache, url: str, space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its second tier has nothing, so that it loads anew."""
    cache.set("k", "old", ttl=60)
    told(capsys, space, "invalidate", "k", "--url", url)
    store = connect(url)
    other = Cache(store, namespace=space, codec=JsonCodec())
    assert other.get_or_load("k", lambda: "new") == "new"
    other.close()
    store.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect"], "needs at least one KEY"),
        (["invalidate"], "needs at least one KEY"),
        (["stats", "--namespace", "a b"], "namespace"),
    ],
)
def test_what_cannot_be_done_is_said(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Exit status 2 and one line."""
    assert main(["cache", *arguments, "--url", url]) == 2
    assert said in capsys.readouterr().err
    assert main(["cache", "stats", "--url", "redis://127.0.0.1:1"]) == 2


def test_responses_are_shared_by_a_fleet(cache: Cache, url: str, space: str) -> None:
    """What one process has stored another serves, and an invalidation by tag reaches both."""
    made: list[str] = []

    def app(environ: object, start_response: object) -> list[bytes]:
        made.append("x")
        start_response("200 OK", [("Cache-Control", "max-age=60")])  # type: ignore[operator]  # WSGI's
        return [b"page"]

    store = connect(url)
    other = Cache(store, namespace=space, codec=JsonCodec())
    one, two = (
        WsgiClient(WsgiCache(app, CacheRule(store=each, tags=lambda _: ["pages"])))
        for each in (cache, other)
    )
    assert [one.get("/p").body, two.get("/p").body, two.get("/p").body] == [b"page"] * 3
    assert len(made) == 1
    other.invalidate_tags("pages")
    assert two.get("/p").body == b"page"
    assert len(made) == 2
    other.close()
    store.close()
