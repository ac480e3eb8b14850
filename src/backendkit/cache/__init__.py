"""Two-tier caching: the parts that stand by themselves.

`L1` keeps entries in this process, `Wire` turns values into what stands in Redis, with a codec, compression and a
seal, and `KeyTemplate` makes keys of a call's arguments.
"""

from backendkit.cache.codecs import Codec, JsonCodec, MsgpackCodec, PickleCodec, TypedCodec
from backendkit.cache.errors import Corrupt, NotEncodable
from backendkit.cache.key_template import KeyTemplate
from backendkit.cache.l1 import L1, Entry
from backendkit.cache.seal import SealKeys
from backendkit.cache.wire import Wire, wire_of

__all__ = [
    "L1",
    "Codec",
    "Corrupt",
    "Entry",
    "JsonCodec",
    "KeyTemplate",
    "MsgpackCodec",
    "NotEncodable",
    "PickleCodec",
    "SealKeys",
    "TypedCodec",
    "Wire",
    "wire_of",
]
