"""What a value looks like in Redis: a version, what was done to it, and its bytes; sealed or not.

    version   1 byte    1
    marks     1 byte    codec (4 bits), compression (3 bits: none, zlib, zstd), sealed (1 bit)
    body      the codec's bytes, compressed or not
    or, sealed: length and id of the key, 16 bytes of salt, 12 of nonce, the body encrypted, 16 bytes of tag

The seal covers version, marks and what the value is about: its key in the cache. So an entry that was copied to
another key, written back from an older version, or unmarked is none. All that cannot be read is `Corrupt`.
"""

from __future__ import annotations

from typing import Any

from backendkit.cache.codecs import Codec
from backendkit.cache.compression import Compression, Method, compression_of
from backendkit.cache.errors import Corrupt, NotEncodable
from backendkit.cache.seal import SealKeys
from backendkit.core import checks
from backendkit.core.errors import InvalidArgument, MissingExtra

VERSION = 1
"""Of the format. A reader knows its own only: after a change all is loaded anew, once."""

HEAD_BYTES = 2

COMPRESS_OVER = 1_024
"""Bytes; below, compressing costs more time than it saves on the way."""

MOST_BYTES = 64 << 20
"""A value's bytes before compression, at most, when it is written and when it is read."""


class Wire:
    """Packs values for a store and unpacks them. Safe to share between threads.

    Args:
        codec: turns values into bytes.
        compress_over: bytes from which on a value is compressed, if that makes it smaller; None: never.
        compression: `"zlib"`, or `"zstd"`, which is faster and needs the extra `zstd`. What others wrote is
            read either way.
        most_bytes: the largest value, in bytes before compression.
        keys: with which values are sealed; None: they are not. How long a compressed value is says something about what is
            in it: to seal values in which secrets and an attacker's text meet, switch compression off.

    Raises:
        InvalidArgument: the codec needs a seal and there are no keys, or its code is out of bounds.
        MissingExtra: zstandard is asked for and not installed.
    """

    __slots__ = (
        "_compress_over", "_compression", "_decode", "_plain", "_readers", "codec", "keys", "most_bytes",
    )  # fmt: skip

    def __init__(
        self,
        codec: Codec,
        *,
        compress_over: int | None = COMPRESS_OVER,
        compression: Method = "zlib",
        most_bytes: int = MOST_BYTES,
        keys: SealKeys | None = None,
    ) -> None:
        code = checks.whole("codec.code", codec.code, least=1, most=15)
        if getattr(codec, "needs_seal", False) and keys is None:
            fix = "pass keys=SealKeys({...}), or take JsonCodec, MsgpackCodec or TypedCodec."
            kind = type(codec).__name__
            raise InvalidArgument("codec", "must be sealed, for reading it runs code", kind, fix)
        if compression not in ("zlib", "zstd"):
            raise InvalidArgument("compression", "must be 'zlib' or 'zstd'", compression)
        self.codec = codec
        self.keys = keys
        self.most_bytes = checks.whole("most_bytes", most_bytes, least=1)
        self._compress_over = most_bytes
        if compress_over is not None:
            self._compress_over = checks.whole("compress_over", compress_over)
        self._compression = compression_of(compression)
        self._readers = _readers(self._compression)
        self._plain = bytes([VERSION, code << 4])
        self._decode = codec.decode

    def pack(self, value: Any, about: bytes = b"") -> bytes:
        """Return a value's bytes.

        Args:
            value: what the codec takes.
            about: what it belongs to: the key, and whatever else must not be exchanged; needed to unpack it.

        Raises:
            NotEncodable: the codec refuses it, or it is larger than `most_bytes`.
        """
        body = self.codec.encode(value)
        if len(body) > self.most_bytes:
            raise NotEncodable(f"{len(body)} bytes are more than most_bytes={self.most_bytes}")
        marks = self._plain[1]
        if len(body) > self._compress_over:
            squeezed = self._compression.squeeze(body)
            if len(squeezed) < len(body):
                body = squeezed
                marks |= self._compression.code << 1
        if self.keys is None:
            return bytes([VERSION, marks]) + body
        head = bytes([VERSION, marks | _SEALED])
        return head + self.keys.seal(body, head + about)

    def unpack(self, data: bytes, about: bytes = b"") -> Any:
        """Return the value that was packed with the same `about`.

        Raises:
            Corrupt: it was not, or not so; nothing else is ever raised.
        """
        if self.keys is None and data[:HEAD_BYTES] == self._plain:
            body = data[HEAD_BYTES:]
        else:
            body = self._opened(data, about)
        try:
            return self._decode(body)
        except Corrupt:
            raise
        except Exception:  # noqa: BLE001 - a user's codec may raise anything
            raise Corrupt("the codec cannot read it") from None

    @property
    def plain(self) -> bytes | None:
        """What stands before the codec's own bytes where they are neither compressed nor sealed; None: they always are."""
        return self._plain if self.keys is None else None

    def body(self, data: bytes) -> bytes | None:
        """Return the codec's own bytes of what `pack` has made, or None where it was compressed or sealed."""
        return data[HEAD_BYTES:] if data[:HEAD_BYTES] == self._plain else None

    def _opened(self, data: bytes, about: bytes) -> bytes:
        head, body = data[:HEAD_BYTES], data[HEAD_BYTES:]
        if len(head) < HEAD_BYTES or head[0] != VERSION:
            raise Corrupt("of another version")
        marks = head[1]
        if marks & 0xF0 != self._plain[1] or bool(marks & _SEALED) != (self.keys is not None):
            raise Corrupt("written by another codec, or with another seal")
        if self.keys is not None:
            body = self.keys.open(body, head + about)
        method = marks & _METHOD
        if method:
            reader = self._readers.get(method)
            if reader is None:
                raise Corrupt("compressed in a way that is not known here")
            body = reader.expand(body, self.most_bytes)
        elif len(body) > self.most_bytes:
            raise Corrupt("larger than most_bytes")
        return body


def wire_of(codec: Codec | Wire) -> Wire:
    """Return a wire as it is, and a codec in one with the defaults."""
    return codec if isinstance(codec, Wire) else Wire(codec)


def _readers(own: Compression) -> dict[int, Compression]:
    """Return what can be read here, by its mark."""
    found: dict[int, Compression] = {own.code << 1: own}
    for method in ("zlib", "zstd"):
        try:
            other = compression_of(method)
        except MissingExtra:
            continue
        found.setdefault(other.code << 1, other)
    return found


_SEALED = 0b0001
_METHOD = 0b1110
