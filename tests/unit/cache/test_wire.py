"""Values on the wire: equal when they come back, a miss when anything is wrong, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pickle
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, GetPydanticSchema, SecretStr
from pydantic_core import core_schema

from backendkit.cache import (
    Corrupt,
    JsonCodec,
    MsgpackCodec,
    NotEncodable,
    PickleCodec,
    SealKeys,
    TypedCodec,
    Wire,
    wire_of,
)
from backendkit.cache import codecs as room
from backendkit.core.errors import InvalidArgument, MissingExtra

SAMPLES = Path(__file__).parent / "samples"
KEYS = SealKeys({"k1": bytes(range(32)), "old": bytes(range(1, 33))})


class Shade(Enum):
    """An enum."""

    DARK = "dark"


class User(BaseModel):
    """A model."""

    id: int
    name: str = Field(alias="userName")
    shade: Shade = Shade.DARK
    seen: datetime | None = None


class Login(BaseModel):
    """A model with a secret, which does not survive."""

    password: SecretStr


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    y: tuple[float, ...]


USER = User(id=1, userName="Anna", seen=datetime(2026, 1, 2, tzinfo=UTC))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=4),
)  # fmt: skip


@pytest.fixture(params=["orjson", "standard library"], scope="module")
def json_codec(request: pytest.FixtureRequest) -> Any:
    """JSON by either library."""
    codec = JsonCodec()
    if request.param != "orjson":
        codec._dumps, codec._loads = room._dumps, room._loads
    return codec


@given(value=json_values)
def test_json_comes_back_equal(json_codec: JsonCodec, value: Any) -> None:
    """With the types of all that is in it, from both libraries, which read each other."""
    data = json_codec.encode(value)
    assert repr(json_codec.decode(data)) == repr(JsonCodec().decode(data)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2), [(1,)], {1: 2}, math.nan, [math.inf], 2**64, -(2**63) - 1, b"x", UUID(int=1), Shade.DARK, Point(1, ()),
        datetime(2026, 1, 1, tzinfo=UTC), {"a"}, object(), "\ud800", USER,
    ],
)  # fmt: skip
def test_what_would_come_back_changed_is_refused(json_codec: JsonCodec, value: object) -> None:
    """Where it is stored, by both libraries alike."""
    with pytest.raises(NotEncodable, match="does not come back equal from JSON"):
        json_codec.encode(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.binary()
        | st.text(st.characters(exclude_categories=["Cs"])) | st.datetimes(timezones=st.just(UTC))
        .map(lambda at: at.replace(fold=0)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    )
)  # fmt: skip
def test_msgpack_comes_back_equal(value: Any) -> None:
    """Bytes, moments and keys that are numbers included."""
    codec = MsgpackCodec()
    assert repr(codec.decode(codec.encode(value))) == repr(value)


@pytest.mark.parametrize("value", [(1,), {1}, object(), [math.nan], datetime(2026, 1, 1)])  # noqa: DTZ001 - that is the point
def test_msgpack_refuses_what_would_change(value: object) -> None:
    """As JSON does."""
    with pytest.raises(NotEncodable, match="MessagePack"):
        MsgpackCodec().encode(value)


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (User, USER), (list[User], [USER, USER]), (Point, Point(1, (2.0, 3.5))), (tuple[int, str], (1, "a")),
        (set[UUID], {UUID(int=1)}), (User | None, None), (int | str, "1"), (int | str, 1), (bytes, b"ab"),
    ],
)  # fmt: skip
def test_types_come_back_as_what_they_are(of: Any, value: object) -> None:
    """Models, dataclasses, tuples, sets, unions."""
    codec = TypedCodec(of)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


def test_a_secret_is_refused_not_starred() -> None:
    """What pydantic hides would come back as stars; and the refusal does not show it either."""
    with pytest.raises(NotEncodable) as refused:
        TypedCodec(Login).encode(Login(password=SecretStr("hunter2")))
    assert "hunter2" not in str(refused.value)


def test_a_type_that_pydantic_does_not_know_is_refused() -> None:
    """When the codec is built."""
    with pytest.raises(InvalidArgument, match="of must be a type"):
        TypedCodec(object())


def test_a_value_of_another_type_is_a_miss() -> None:
    """After a deploy that changed the model, stored values are loaded anew; nothing of them shows."""
    codec = TypedCodec(User)
    mark = codec.encode(USER)[:6]
    data = mark + JsonCodec().encode({"id": "SECRET"})
    with pytest.raises(Corrupt) as corrupt:
        codec.decode(data)
    assert "SECRET" not in str(corrupt.value)
    assert corrupt.value.__cause__ is None
    assert corrupt.value.__suppress_context__


def test_pickle_must_be_sealed() -> None:
    """By name only, and never without keys."""
    with pytest.raises(InvalidArgument, match="must be sealed"):
        Wire(PickleCodec())
    wire = Wire(PickleCodec(), keys=KEYS)
    assert wire.unpack(wire.pack({1, Shade.DARK}, b"k"), b"k") == {1, Shade.DARK}
    with pytest.raises(NotEncodable):
        wire.pack(lambda: None, b"k")
    gone = wire.pack(USER, b"k")
    assert wire.unpack(gone, b"k") == USER
    with pytest.raises(InvalidArgument, match="protocol"):
        PickleCodec(protocol=0)


def test_no_foreign_pickle_is_run() -> None:
    """Bytes that somebody wrote into Redis never reach pickle."""

    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("it ran",)

    evil = pickle.dumps(Bomb())
    wire = Wire(PickleCodec(), keys=KEYS)
    head = wire.pack(1, b"k")[:2]
    for data in (evil, b"\x01\x40" + evil, head + evil, head + b"\x02k1" + bytes(28) + evil):
        with pytest.raises(Corrupt):
            wire.unpack(data, b"k")


def wires() -> list[Wire]:
    """One wire of each kind."""
    return [
        Wire(JsonCodec()),
        Wire(MsgpackCodec(), compression="zstd", compress_over=0),
        Wire(JsonCodec(), compress_over=0, keys=KEYS),
        Wire(TypedCodec(list[int]), compress_over=None),
        Wire(PickleCodec(), keys=KEYS, compression="zstd"),
        Wire(Wild(), compress_over=None),
    ]


class Wild:
    """A user's codec whose decoding fails in its own way."""

    code = 8

    def encode(self, value: Any) -> bytes:
        """Return it."""
        return bytes(value)

    def decode(self, data: bytes, /) -> Any:
        """Take only what begins with a zero."""
        if data[:1] != b"\0":
            raise KeyError(data)
        return list(data)


VALUE = [0, 1, 2] * 50
WIRES = wires()


@settings(max_examples=300)
@given(st.integers(0, 5), st.binary(max_size=80), st.sampled_from([b"", b"\x01", b"\x01\x10", b"\x01\x12", b"\x01\x80", b"\x01\x25", b"\x01\x43", b"\x01\x13\x02k1"]))  # fmt: skip
def test_bytes_from_anywhere_are_a_value_or_corrupt(which: int, data: bytes, head: bytes) -> None:
    """Never another exception."""
    with contextlib.suppress(Corrupt):
        WIRES[which].unpack(head + data, b"key")


@settings(max_examples=300)
@given(st.integers(0, 5), st.data())
def test_a_damaged_entry_is_a_value_or_corrupt(which: int, data: st.DataObject) -> None:
    """Cut, with a byte changed, with something behind; where it was sealed or compressed always Corrupt."""
    wire = WIRES[which]
    good = wire.pack(VALUE, b"key")
    place = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    bad = data.draw(
        st.sampled_from(
            [good[:place], good[:place] + bytes([good[place] ^ flip]) + good[place + 1 :], good + b"x"]
        )
    )  # fmt: skip
    assert wire.unpack(good, b"key") == VALUE
    try:
        wire.unpack(bad, b"key")
    except Corrupt:
        return
    assert wire.keys is None


def test_a_sealed_entry_belongs_to_its_key() -> None:
    """Copied to another key, it is none; so is one of another ring, and one with a mark changed."""
    wire = Wire(JsonCodec(), keys=KEYS)
    data = wire.pack("value", b"user:1")
    assert wire.unpack(data, b"user:1") == "value"
    others = [Wire(JsonCodec(), keys=SealKeys.generate()), Wire(JsonCodec()), Wire(MsgpackCodec(), keys=KEYS)]  # fmt: skip
    stranger = Wire(JsonCodec(), keys=SealKeys({"k1": bytes(range(2, 34))}))
    for reader, about in [
        (wire, b"user:2"),
        *((other, b"user:1") for other in [*others, stranger]),
    ]:
        with pytest.raises(Corrupt):
            reader.unpack(data, about)
    for mark in range(256):
        if mark != data[1]:
            with pytest.raises(Corrupt):
                wire.unpack(data[:1] + bytes([mark]) + data[2:], b"user:1")
    assert b"value" not in data


def test_an_unsealed_entry_is_none_where_sealed_ones_are_expected() -> None:
    """Whoever writes into Redis without the key is not heard."""
    with pytest.raises(Corrupt):
        Wire(JsonCodec(), keys=KEYS).unpack(Wire(JsonCodec()).pack("v"))


def test_keys_rotate() -> None:
    """The first seals, all open, and what is left out opens no more; equal values never look equal."""
    old, new = {"old": bytes(range(1, 33))}, {"new": bytes(range(40, 72))}
    data = Wire(JsonCodec(), keys=SealKeys(old)).pack("v")
    both = Wire(JsonCodec(), keys=SealKeys({**new, **old}))
    assert both.unpack(data) == "v"
    with pytest.raises(Corrupt):
        Wire(JsonCodec(), keys=SealKeys(new)).unpack(data)
    assert Wire(JsonCodec(), keys=SealKeys(new)).unpack(both.pack("w")) == "w"
    assert both.pack("v") != both.pack("v")


@pytest.mark.parametrize(
    "keys", [{}, {"": bytes(range(32))}, {"a b": bytes(range(32))}, {"x" * 17: bytes(range(32))}, {"k": bytes(32)}, {"k": b"short"}]
)  # fmt: skip
def test_weak_or_nameless_keys_are_refused(keys: dict[str, bytes]) -> None:
    """When the ring is built."""
    with pytest.raises(InvalidArgument, match="keys must"):
        SealKeys(keys)


def test_keys_are_read_from_text_and_never_shown() -> None:
    """By environment variable, comma or line; no repr, error or pickle has them."""
    secret = bytes(range(32)).hex()
    ring = SealKeys.from_text(f"a:{secret}, b:{secret[::-1]}\n")
    assert repr(ring) == "SealKeys(['a', 'b'])"
    for text in ("", "a", "a:xx", f"a:{secret} a:{secret}", f"a:{secret[:20]}"):
        with pytest.raises(InvalidArgument) as refused:
            SealKeys.from_text(text)
        assert secret[:20] not in str(refused.value)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(ring)


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_large_values_are_compressed(method: Any) -> None:
    """Beyond the threshold, where it helps; the other method's entries are read as well."""
    wire = Wire(JsonCodec(), compression=method)
    large, small = "x" * 5_000, "x" * 1_000
    assert len(wire.pack(large)) < 200
    assert len(wire.pack(small)) == 1_004
    noise = "".join(chr(33 + (n * n * 7919) % 90) for n in range(1_100))
    for value in (large, small, noise):
        assert Wire(JsonCodec(), compression="zstd").unpack(wire.pack(value)) == value
        assert Wire(JsonCodec(), compression="zlib").unpack(wire.pack(value)) == value
    incompressible = Wire(Wild())
    assert len(incompressible.pack(b"\0" + SAMPLE_NOISE)) == 2 + 1 + len(SAMPLE_NOISE)


SAMPLE_NOISE = zlib.compress(bytes((n * n * 31) % 251 for n in range(40_000)), 9)


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_compressed_values_are_read_whole_or_not_at_all(method: Any) -> None:
    """Neither without their checksum, nor with something behind."""
    wire = Wire(JsonCodec(), compression=method)
    data = wire.pack("x" * 5_000)
    for damaged in (data[:-1], data + b"x", data + data[2:]):
        with pytest.raises(Corrupt):
            wire.unpack(damaged)


def test_no_codec_reads_what_another_wrote() -> None:
    """Not even where the bytes happen to mean something in both."""
    data = Wire(JsonCodec()).pack(1)
    assert MsgpackCodec().decode(data[2:]) == 49
    with pytest.raises(Corrupt, match="another codec"):
        Wire(MsgpackCodec()).unpack(data)


@pytest.mark.parametrize("method", ["zlib", "zstd"])
def test_a_bomb_is_refused(method: Any) -> None:
    """What would grow beyond the bound is never unpacked; neither is what hides how much it grows."""
    big = Wire(JsonCodec(), compression=method)
    bomb = big.pack("x" * 2_000_000)
    with pytest.raises(Corrupt, match="grow beyond"):
        Wire(JsonCodec(), most_bytes=100_000).unpack(bomb)
    assert big.unpack(bomb) == "x" * 2_000_000
    with pytest.raises(NotEncodable, match="more than most_bytes"):
        Wire(JsonCodec(), most_bytes=10).pack("x" * 11)
    with pytest.raises(Corrupt, match="larger than"):
        Wire(JsonCodec(), keys=KEYS, most_bytes=10).unpack(
            Wire(JsonCodec(), keys=KEYS).pack("x" * 11)
        )


def test_a_stream_that_does_not_tell_its_size_is_refused() -> None:
    """Zstandard's streams may leave it out."""
    zstandard: Any = pytest.importorskip("zstandard")
    stream = zstandard.ZstdCompressor().compressobj()
    hidden = stream.compress(b'"x"') + stream.flush()
    with pytest.raises(Corrupt):
        Wire(JsonCodec()).unpack(b"\x01\x14" + hidden)


def test_what_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Msgpack and zstandard name their extra; without orjson JSON still works, and zstd's entries are misses."""
    packed = Wire(JsonCodec(), compression="zstd").pack("x" * 5_000)
    for package in ("msgpack", "zstandard", "orjson"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"backendkit\[msgpack\]"):
        MsgpackCodec()
    with pytest.raises(MissingExtra, match=r"backendkit\[zstd\]"):
        Wire(JsonCodec(), compression="zstd")
    plain = Wire(JsonCodec())
    assert plain.unpack(plain.pack({"a": 1})) == {"a": 1}
    with pytest.raises(Corrupt, match="compressed in a way"):
        plain.unpack(packed)


def test_what_cannot_work_is_refused_at_once() -> None:
    """An unknown compression, a code out of bounds; a wire passes through as it is."""
    with pytest.raises(InvalidArgument, match="compression"):
        Wire(JsonCodec(), compression="gzip")  # type: ignore[arg-type]  # refused on purpose

    class Far(Wild):
        code = 16

    with pytest.raises(InvalidArgument, match="code"):
        Wire(Far())
    wire = Wire(JsonCodec())
    assert wire_of(wire) is wire
    assert wire_of(JsonCodec()).unpack(wire.pack(1)) == 1


class First(BaseModel):
    """A model at first."""

    title: str = "x"
    seen: set[str] = {"a", "b", "c"}


def test_a_model_that_has_changed_means_a_miss() -> None:
    """Though its defaults would fill the gap, and what is too much be left out."""

    class Renamed(BaseModel):
        name: str = "x"
        seen: set[str] = {"a", "b", "c"}

    class More(First):
        admin: bool = False

    class Narrower(BaseModel):
        title: Literal["x"] = "x"
        seen: set[str] = {"a", "b", "c"}

    class Told(BaseModel):
        """In other words, with other defaults."""

        title: str = Field("y", description="what it is called")
        seen: set[str] = set()

    data = TypedCodec(First).encode(First())
    for other in (Renamed, More, Narrower, list[First]):
        with pytest.raises(Corrupt, match="another schema"):
            TypedCodec(other).decode(data)
    assert TypedCodec(Told).decode(data).title == "x"
    assert TypedCodec(First | None).decode(TypedCodec(First | None).encode(None)) is None


def test_a_model_has_one_shape_in_all_processes() -> None:
    """Whatever the hash seed."""
    code = (
        "from tests.unit.cache.test_wire import First; from backendkit.cache import TypedCodec;"
        "print(TypedCodec(First)._mark.hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
            cwd=Path(__file__).parents[3],
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {TypedCodec(First)._mark.hex() + "\n"}


class Tagged(BaseModel):
    """A model with a default that is no JSON."""

    at: complex | int = 1j


def test_what_a_schema_cannot_say_makes_no_difference() -> None:
    """A type without one is checked by what it accepts alone; nobody is warned of a default."""
    plain = core_schema.no_info_plain_validator_function(lambda value: value)
    of = Annotated[str, GetPydanticSchema(lambda _, __: plain)]
    assert TypedCodec(of).decode(TypedCodec(of).encode("a")) == "a"
    assert TypedCodec(Tagged).decode(TypedCodec(Tagged).encode(Tagged(at=2))).at == 2


def stored() -> list[Any]:
    """Return the samples of every released version."""
    return [
        pytest.param(sample, id=f"{file.stem}-{sample['name']}")
        for file in sorted(SAMPLES.glob("*.json"))
        for sample in json.loads(file.read_text())
    ]


READERS = {
    "json": lambda: Wire(JsonCodec()),
    "json-sealed": lambda: Wire(JsonCodec(), keys=KEYS),
    "msgpack": lambda: Wire(MsgpackCodec()),
    "typed": lambda: Wire(TypedCodec(list[int])),
    "pickle-sealed": lambda: Wire(PickleCodec(), keys=KEYS),
}


@pytest.mark.parametrize("sample", stored())
def test_what_a_released_version_wrote_is_read(sample: dict[str, Any]) -> None:
    """Each kind of entry, as it was stored then; as another version's it is a miss."""
    wire = READERS[sample["reader"]]()
    data = bytes.fromhex(sample["hex"])
    assert wire.unpack(data, b"user:1") == sample["value"]
    with pytest.raises(Corrupt, match="version"):
        wire.unpack(bytes([data[0] ^ 3]) + data[1:], b"user:1")
