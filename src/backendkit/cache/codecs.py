"""Values as bytes and back: what is encoded comes back equal, or is refused when it is encoded.

That is checked on every encoding, by decoding again: a tuple that would come back as a list, a NaN as null, an
unsaved secret as stars is refused where it is stored, instead of turning up changed when the value comes
from Redis and unchanged when it comes from this process.
"""

from __future__ import annotations

import json
import pickle  # only behind PickleCodec, which only a sealed Wire takes
from collections.abc import Callable
from hashlib import blake2b
from importlib import import_module
from typing import Any, Protocol, cast

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from backendkit.cache.errors import Corrupt, NotEncodable
from backendkit.core import checks
from backendkit.core.errors import InvalidArgument, MissingExtra


class Codec(Protocol):
    """Turns values into bytes and back; users may bring their own."""

    @property
    def code(self) -> int:
        """Stored with each value, so that no other codec reads it: 1..7 are the library's, 8..15 are free."""
        ...

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value.

        Raises:
            NotEncodable: it would not come back equal.
        """
        ...

    def decode(self, data: bytes, /) -> Any:
        """Return the value of bytes.

        Raises:
            Corrupt: they are none that this codec wrote; nothing else is ever raised.
        """
        ...


class JsonCodec:
    """JSON: dicts with text keys, lists, text, numbers, booleans, None. With orjson where that is installed.

    Both write the same values: whole numbers of 64 bits, no NaN.
    """

    __slots__ = ("_dumps", "_loads")

    code = 1

    def __init__(self) -> None:
        self._dumps, self._loads = _json()

    def encode(self, value: Any) -> bytes:
        """Return a value as JSON; see `Codec.encode`."""
        return _encode(self._dumps, self._loads, value, "JSON")

    def decode(self, data: bytes, /) -> Any:
        """Return the value of JSON; see `Codec.decode`."""
        try:
            return self._loads(data)
        except Exception:  # noqa: BLE001 - RecursionError and MemoryError among them
            raise Corrupt("no JSON") from None


class MsgpackCodec:
    """MessagePack: what JSON has, bytes, keys that are no text, and moments with a time zone, which come back in UTC.

    Raises:
        MissingExtra: msgpack is not installed.
    """

    __slots__ = ("_dumps", "_loads")

    code = 2

    def __init__(self) -> None:
        try:
            msgpack: Any = import_module("msgpack")
        except ModuleNotFoundError as error:
            raise MissingExtra("MsgpackCodec", "msgpack", "msgpack") from error
        pack, unpack = msgpack.packb, msgpack.unpackb
        self._dumps: Callable[[Any], bytes] = lambda value: pack(value, datetime=True)
        self._loads: Callable[[bytes], Any] = lambda data: unpack(
            data, timestamp=3, strict_map_key=False
        )

    def encode(self, value: Any) -> bytes:
        """Return a value as MessagePack; see `Codec.encode`."""
        return _encode(self._dumps, self._loads, value, "MessagePack")

    def decode(self, data: bytes, /) -> Any:
        """Return the value of MessagePack; see `Codec.decode`."""
        try:
            return self._loads(data)
        except Exception:  # noqa: BLE001 - its errors have no common base
            raise Corrupt("no MessagePack") from None


class TypedCodec:
    """Values of one type, checked by pydantic when they come back: models, dataclasses, dates, sets, enums, unions.

    Before each value stands a digest of its type's JSON schema: of a model with another field, or another type of one, a stored
    value is a miss, though its defaults would fill what is missing. Defaults, descriptions and validators make no
    difference, nor does anything of a type that has no JSON schema.

    Args:
        of: the type, as pydantic takes it: `User`, `list[User]`, `tuple[int, str] | None`.

    Raises:
        InvalidArgument: pydantic knows no schema for it.
    """

    __slots__ = ("_dumps", "_loads", "_mark", "_shown")

    code = 3

    def __init__(self, of: Any) -> None:
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(of)
        except Exception as error:
            raise InvalidArgument("of", "must be a type that pydantic knows", of) from error
        self._shown = repr(of)
        self._mark = _mark_of(adapter)
        self._dumps: Callable[[Any], bytes] = lambda value: adapter.dump_json(
            value, by_alias=True, round_trip=True, warnings="error"
        )
        self._loads: Callable[[bytes], Any] = adapter.validate_json

    def encode(self, value: Any) -> bytes:
        """Return a value of the type as JSON; see `Codec.encode`."""
        return self._mark + _encode(self._dumps, self._loads, value, self._shown)

    def decode(self, data: bytes, /) -> Any:
        """Return the value, once it is valid for the type; see `Codec.decode`."""
        if data[:_MARK_BYTES] != self._mark:
            raise Corrupt(f"written for another schema than that of {self._shown}")
        try:
            return self._loads(data[_MARK_BYTES:])
        except Exception:  # noqa: BLE001 - a validator of the type may raise anything
            raise Corrupt(f"nothing valid for {self._shown}") from None


class PickleCodec:
    """Pickle, for what nothing else takes. Whoever can write pickles runs code here: only a sealed `Wire` takes it.

    Args:
        protocol: of pickle; the lowest that all processes know.
    """

    __slots__ = ("_protocol",)

    code = 4
    needs_seal = True

    def __init__(self, *, protocol: int = 4) -> None:
        self._protocol = checks.whole("protocol", protocol, least=2, most=pickle.HIGHEST_PROTOCOL)

    def encode(self, value: Any) -> bytes:
        """Return a value as a pickle; see `Codec.encode`."""
        try:
            return pickle.dumps(value, self._protocol)
        except Exception as error:
            raise _refused(value, "a pickle") from error

    def decode(self, data: bytes, /) -> Any:
        """Return the value of a pickle, which must be one of ours; see `Codec.decode`."""
        try:
            return pickle.loads(data)  # noqa: S301 - the seal was checked before
        except Exception:  # noqa: BLE001 - a class that is gone, or anything that its __setstate__ raises
            raise Corrupt("no pickle of anything that is known here") from None


def _mark_of(adapter: TypeAdapter[Any]) -> bytes:
    """Return the digest of a type's shape, the same in every process."""
    try:
        schema = json.dumps(_bare(adapter.json_schema(schema_generator=_Quiet)), sort_keys=True)
    except Exception:  # noqa: BLE001 - a type that pydantic reads and has no JSON schema for
        schema = ""
    return blake2b(schema.encode("utf-8", "surrogatepass"), digest_size=_MARK_BYTES).digest()


class _Quiet(GenerateJsonSchema):
    """Says nothing of what a schema cannot say, like a default that is no JSON."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Keep quiet."""


def _bare(schema: object) -> object:
    """Leave out what does not change what is read; of defaults, sets are written in another order by each process."""
    if isinstance(schema, list):
        return [_bare(each) for each in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    found = cast("dict[str, dict[str, object]]", schema)
    return {
        key: {name: _bare(each) for name, each in value.items()} if key in _NAMED else _bare(value)
        for key, value in found.items()
        if key not in _TOLD
    }


def _encode(
    dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any], value: Any, what: str
) -> bytes:
    try:
        data = dumps(value)
        if bool(loads(data) == value):
            return data
    except Exception as error:
        raise _refused(value, what) from error
    raise _refused(value, what)


def _refused(value: object, what: str) -> NotEncodable:
    kind = type(value).__qualname__
    return NotEncodable(
        f"a {kind} does not come back equal from {what}\n"
        "To fix it: cache plain data, or use TypedCodec(...) with its type."
    )


def _json() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    try:
        orjson: Any = import_module("orjson")
    except ModuleNotFoundError:
        return _dumps, _loads
    dumps: Callable[..., bytes] = orjson.dumps
    options: int = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    return (lambda value: dumps(value, None, options)), orjson.loads


def _dumps(value: Any) -> bytes:
    """Write what orjson would."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def _loads(data: bytes) -> Any:
    """Read what orjson would: it makes a float of a whole number beyond 64 bits."""
    return json.loads(data.decode(), parse_int=_whole, parse_constant=_whole)


def _whole(digits: str) -> int:
    number = int(digits)
    if not -(2**63) <= number < 2**64:
        raise ValueError("beyond 64 bits")
    return number


_MARK_BYTES = 6
_NAMED = ("properties", "$defs", "patternProperties", "mapping")
"""Under these stand names of the type's own, which may be `title` as well."""

_TOLD = ("default", "title", "description", "examples", "deprecated")
