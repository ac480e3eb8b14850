"""The wire: what Redis reads is what the operation says, byte for byte."""

import re
from hashlib import sha1
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from backendkit.core.checks import LARGEST_INT
from backendkit.core.errors import InvalidArgument
from backendkit.core.operation import Change, Item, Operation, Script
from backendkit.stores.redis import wire
from backendkit.stores.redis.wire import ASKING, Packer, lua_of
from tests.ground.loops import in_threads

PLAIN = Script("plain", lua="return {1}", fold=lambda *_: Change((), [1]))
TIMED = Script("timed", lua="return {now}", fold=lambda *_: Change((), [1]))

keys = st.lists(st.binary(max_size=20), min_size=1, max_size=4).map(tuple)
items = st.lists(st.integers(-LARGEST_INT, LARGEST_INT) | st.binary(max_size=50), max_size=6)


def parsed(data: bytes) -> list[bytes]:
    """Return the words of one command; the whole of the bytes must be that command."""
    head = re.match(rb"\*(\d+)\r\n", data)
    assert head is not None
    rest, words = data[head.end() :], []
    for _ in range(int(head[1])):
        size = re.match(rb"\$(\d+)\r\n", rest)
        assert size is not None
        end = size.end() + int(size[1])
        words.append(rest[size.end() : end])
        assert rest[end : end + 2] == b"\r\n"
        rest = rest[end + 2 :]
    assert rest == b""
    return words


def operation(script: Script, keys: tuple[bytes, ...], args: list[Item]) -> Operation[Any]:
    """Return an operation whose reply does not matter."""
    return Operation(script, keys, args, len)


@given(keys=keys, args=items, injected=st.booleans())
def test_words_are_the_operations(
    keys: tuple[bytes, ...], args: list[Item], injected: bool
) -> None:
    """Digest or text, the count of keys, keys, arguments; and the injected time where a test brings one."""
    packer = Packer(lambda: 1_790_000_000_000_123) if injected else Packer()
    for script in (PLAIN, TIMED):
        lua = lua_of(script, injected=injected).encode()
        tail = [str(len(keys)).encode(), *keys]
        tail += [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        tail += [b"1790000000000123"] * injected
        made = operation(script, keys, args)
        digest = sha1(lua, usedforsecurity=False).hexdigest().encode()
        assert parsed(packer.pack(made)) == [b"EVALSHA", digest, *tail]
        assert parsed(packer.pack_eval(made)) == [b"EVAL", lua, *tail]


@given(keys=keys, args=items)
def test_bytes_are_those_that_redis_py_would_send(
    keys: tuple[bytes, ...], args: list[Item]
) -> None:
    """An independent packer agrees."""
    digest = sha1(PLAIN.lua.encode(), usedforsecurity=False).hexdigest()
    words = ("EVALSHA", digest, len(keys), *keys, *args)
    theirs = b"".join(Connection().pack_command(*words))  # type: ignore[no-untyped-call]
    assert Packer().pack(operation(PLAIN, keys, args)) == theirs


@pytest.mark.parametrize("number", [LARGEST_INT + 1, -LARGEST_INT - 1, 2**63, 10**30])
def test_an_integer_that_lua_cannot_hold_is_refused(number: int) -> None:
    """It would arrive as another."""
    with pytest.raises(InvalidArgument, match=r"args must be integers below 2\*\*53 in magnitude"):
        Packer().pack(operation(PLAIN, (b"k",), [number]))


@pytest.mark.parametrize("argument", [True, 1.5, None, "text", bytearray(b"x"), [1]], ids=repr)
def test_what_is_neither_integer_nor_bytes_is_refused(argument: Any) -> None:
    """By its type alone: its value may be a secret."""
    with pytest.raises(InvalidArgument, match="args must be int or bytes, got <class") as caught:
        Packer().pack(operation(PLAIN, (b"k",), [argument]))
    assert caught.value.value is type(argument)


@pytest.mark.parametrize("key", ["text", 1, None], ids=repr)
def test_a_key_that_is_not_bytes_is_refused(key: Any) -> None:
    """By name, as arguments are, so that it fails alone in a batch."""
    with pytest.raises(InvalidArgument, match=r"keys must be bytes, got \[<class"):
        Packer().pack(operation(PLAIN, (key,), []))


def test_time_is_the_servers_unless_a_test_brings_its_own() -> None:
    """And asked for only by scripts that mention it."""
    assert lua_of(PLAIN) == "return {1}"
    assert lua_of(TIMED) == wire.SERVER_TIME_LUA + "return {now}"
    assert lua_of(TIMED, injected=True) == wire.INJECTED_TIME_LUA + "return {now}"
    assert lua_of(PLAIN, injected=True) == "table.remove(ARGV)\nreturn {1}"


def test_a_word_that_contains_now_is_not_now() -> None:
    """Nor is one of several."""
    script = Script("s", lua="local known, now_us = 1, 2 return {known}", fold=PLAIN.fold)
    assert lua_of(script) == script.lua


def test_the_injected_time_is_read_at_each_packing() -> None:
    """An operation that is sent again sees the time of then."""
    ticks = count(5)
    packer, made = Packer(lambda: next(ticks)), operation(TIMED, (b"k",), [])
    assert [parsed(packer.pack(made))[-1] for _ in range(3)] == [b"5", b"6", b"7"]


def test_numbers_that_recur_are_kept_and_others_do_not_pile_up() -> None:
    """Time stamps pass through by the million."""
    packer = Packer()
    for number in range(10_000):
        packer.pack(operation(PLAIN, (b"k",), [number, 7]))
    assert len(packer._ints) == wire._MOST_INTS
    assert parsed(packer.pack(operation(PLAIN, (b"k",), [7, 9_999, 0])))[-3:] == [
        b"7",
        b"9999",
        b"0",
    ]


def test_scripts_of_one_text_and_shapes_of_one_script_are_apart() -> None:
    """The head's length depends on both."""
    packer = Packer()
    shapes = [((b"a",), []), ((b"a", b"b"), []), ((b"a",), [1]), ((b"a",), [1, 2])]
    made = [operation(PLAIN, names, list(args)) for names, args in shapes]
    assert [len(parsed(packer.pack(each))) for each in made] == [4, 5, 5, 6]
    assert parsed(ASKING) == [b"ASKING"]


def test_threads_share_a_packer() -> None:
    """Each gets its own bytes."""
    packer = Packer()

    def work(number: int) -> bool:
        made = [operation(PLAIN, (b"k%d" % number,), [number * 1_000 + n]) for n in range(500)]
        return all(parsed(packer.pack(each))[-1] == str(each.args[0]).encode() for each in made)

    assert in_threads(8, work) == [True] * 8
