"""Keys: no two subjects share one, and Cluster places them by their tag."""

import re
import subprocess
import sys

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from backendkit.core.errors import InvalidArgument
from backendkit.core.keys import LONGEST_PART, KeySpace, Part, escape, escape_all
from backendkit.stores.redis.cluster import SLOTS, slot_of
from tests.ground import slots

SPACE = KeySpace("ratelimit", version=1, kind="log")

hostile = st.sampled_from(
    ["", "{", "}", "{}", "/", ":", "a/b", "a:b", "#", "%", "%2F", "%2f", "\0", "\ud800", "\ud83d\ude00", "😀", "é",
     " ", "\r\n", "x" * 255, "x" * 256, "x" * 257, "/" * 85, "/" * 86, "x" * 10_240, b"\xff", b"\xed\xa0\x80",
     0, 1, -1, 2**63, "#" + "0" * 40, "user.1", "user.2"]
)  # fmt: skip
parts: st.SearchStrategy[Part] = st.one_of(
    hostile,
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.text("{}/:%#a", max_size=6),
    st.binary(max_size=8),
    st.integers(),
)
tags = (
    st.lists(parts, min_size=1, max_size=3)
    .map(tuple)
    .filter(lambda tag: tag not in {("",), (b"",)})
)
owned = st.lists(parts, max_size=3).map(tuple)


def meaning(part: Part) -> bytes:
    """Return what makes a part the same as another: text is its bytes, a number its digits."""
    if isinstance(part, int):
        return str(part).encode()
    return part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part


@given(tag=tags, of=owned, other_tag=tags, other_of=owned)
@example(tag=("a/b", "c"), of=(), other_tag=("a", "b/c"), other_of=())
@example(tag=("a",), of=("b",), other_tag=("a}:b",), other_of=())
@example(tag=("a",), of=(), other_tag=("a",), other_of=("",))
@example(tag=("x" * 257,), of=(), other_tag=("x" * 258,), other_of=())
@example(tag=("",) * 2, of=(), other_tag=("",) * 3, other_of=())
def test_different_subjects_have_different_keys(
    tag: tuple[Part, ...],
    of: tuple[Part, ...],
    other_tag: tuple[Part, ...],
    other_of: tuple[Part, ...],
) -> None:
    """Keys are equal exactly where the parts mean the same."""
    same = [*map(meaning, tag), None, *map(meaning, of)] == [
        *map(meaning, other_tag),
        None,
        *map(meaning, other_of),
    ]
    assert (SPACE.key(*tag, of=of) == SPACE.key(*other_tag, of=other_of)) == same


@given(tag=tags, of=owned)
def test_all_keys_of_a_subject_lie_in_one_slot(tag: tuple[Part, ...], of: tuple[Part, ...]) -> None:
    """That of the tag: what Redis hashes is what stands in the one pair of braces."""
    key = SPACE.key(*tag, of=of)
    inside = re.fullmatch(rb"bk:ratelimit\.1\.log:\{([^{}]+)\}(:[^{}]*)?", key)
    assert inside is not None
    assert slot_of(key) == slot_of(SPACE.key(*tag)) == slot_of(inside[1]) == slots.key_slot(key)


@given(key=st.binary(max_size=20) | st.text("{}ab", max_size=8).map(str.encode))
@example(key=b"")
@example(key=b"{}a{b}")
@example(key=b"a{{b}}")
@example(key=b"a{b")
@example(key=b"}a{b}{c}")
def test_slots_are_those_of_redis_py(key: bytes) -> None:
    """An independent implementation agrees, on empty, nested and unclosed tags."""
    assert slot_of(key) == key_slot(key) == slots.key_slot(key)
    assert 0 <= slot_of(key) < SLOTS


@given(part=parts)
def test_an_escaped_part_has_no_byte_that_means_something(part: Part) -> None:
    """And is at most as long as the longest part."""
    escaped = escape(part)
    assert not re.search(rb"[\x00-\x20{}/:\"'\\]", escaped)
    assert len(escaped) <= LONGEST_PART


def test_plain_parts_stay_readable() -> None:
    """Whoever looks into Redis sees whose key it is."""
    assert SPACE.key("user.42-a_B", of=("hour", 7)) == b"bk:ratelimit.1.log:{user.42-a_B}:hour/7"
    assert SPACE.key("a b", "c/d") == b"bk:ratelimit.1.log:{a%20b/c%2Fd}"
    assert SPACE.key("é@x.org") == "bk:ratelimit.1.log:{é@x.org}".encode()


def test_what_is_long_stands_as_its_digest() -> None:
    """Of fixed length, and marked by a sign that no other part has."""
    assert escape("x" * 256) == b"x" * 256
    assert re.fullmatch(rb"#[0-9a-f]{40}", escape("x" * 257))
    assert re.fullmatch(rb"#[0-9a-f]{40}", escape(b"\0" * 100))  # 300 bytes once escaped
    assert escape("#" + "0" * 40) == b"%23" + b"0" * 40


@pytest.mark.parametrize("tag", [(), ("",), (b"",)])
def test_a_subject_must_have_a_character(tag: tuple[Part, ...]) -> None:
    """An empty tag would spread the keys of one subject over all slots."""
    with pytest.raises(InvalidArgument, match="key must have at least one character"):
        SPACE.key(*tag)


def test_zero_is_a_subject() -> None:
    """It is false, not empty."""
    assert SPACE.key(0) == b"bk:ratelimit.1.log:{0}"


def test_text_and_bytes_are_never_compared() -> None:
    """`python -bb` makes that an error, and users run it."""
    source = (
        "from backendkit.core.keys import KeySpace as K; k = K('a', version=1, kind='b');"
        "k.key(b'x'); k.key('x'); k.key(1)"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-bb", "-c", source], check=False, capture_output=True, env=environment
    )
    assert done.stderr == b""
    assert done.returncode == 0


spaces = st.tuples(
    st.text("ab1_", min_size=1, max_size=3),
    st.integers(1, 12),
    st.text("ab1._", min_size=1, max_size=4),
    st.text("ab1._", min_size=1, max_size=3),
)


@given(one=spaces, other=spaces)
def test_different_features_versions_and_kinds_have_different_keys(
    one: tuple[str, int, str, str], other: tuple[str, int, str, str]
) -> None:
    """A deploy that changes any of them never meets the other's state."""
    assume(one != other)
    keys = [
        KeySpace(feature, version=version, kind=kind, namespace=namespace).key("same")
        for feature, version, kind, namespace in (one, other)
    ]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"feature": "a.1"}, "feature must have no dot, got 'a.1'"),
        ({"feature": ""}, "feature must be 1..128 characters long, got ''"),
        ({"feature": "a:b"}, "feature must be of letters, digits and . _ - only, got 'a:b'"),
        ({"kind": "a{b}"}, "kind must be of letters"),
        ({"kind": "é"}, "kind must be printable ASCII text, got 'é'"),
        ({"namespace": "a b"}, "namespace must be of letters"),
        ({"namespace": "x" * 129}, "namespace must be 1..128 characters long"),
        ({"version": 0}, r"version must be in 1..9007199254740991, got 0"),
        ({"version": True}, "version must be a whole number, got True"),
    ],
)
def test_a_wrong_key_space_is_named(options: dict[str, object], said: str) -> None:
    """Argument, rule and value."""
    given_ = {"feature": "a", "version": 1, "kind": "b", **options}
    with pytest.raises(InvalidArgument, match=said):
        KeySpace(**given_)  # type: ignore[arg-type]  # wrong on purpose


@given(st.lists(st.one_of(st.text(), st.text("aZ0_.-", max_size=300)), max_size=5))
def test_many_parts_are_escaped_like_one(parts: list[str]) -> None:
    """Whatever stands beside it."""
    assert escape_all(parts) == [escape(part) for part in parts]
