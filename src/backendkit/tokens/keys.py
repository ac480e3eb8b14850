"""One key: its algorithm, its id, its life, and signing and checking with everything prepared once.

An algorithm belongs to a key, never to a token (RFC 8725 section 3.1). The mathematics is PyJWT's `Algorithm`
objects over `cryptography`; parsing and every check around them is ours. No repr, pickle or error shows a key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, cast

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from backendkit.core.checks import LARGEST_INT, whole
from backendkit.core.clock import SECOND_US
from backendkit.tokens.algorithms import ALGORITHMS, BY_CURVE, Algorithm, is_roca
from backendkit.tokens.draw import MAKERS
from backendkit.tokens.encoding import decode, encode
from backendkit.tokens.errors import KeyRefused

T = TypeVar("T")

LEAST_RSA_BITS = 2048
"""RFC 7518 section 3.3."""

LEAST_DISTINCT_BYTES = 8
"""A secret of fewer different bytes was typed, not drawn."""


class Key:
    """A key for one algorithm; made by `generate`, `from_secret`, `from_pem` or `from_jwk`.

    Attributes:
        alg: the one algorithm that it is used with.
        kid: its id; by default its RFC 7638 thumbprint.
        signs: whether it holds what signing needs; else it only verifies.
        not_before_us: it does not sign before this wall-clock moment; verifying needs no beginning.
        until_us: it neither signs nor verifies from this moment on; None: no end.
    """

    __slots__ = (
        "_accepts",
        "_check",
        "_raw",
        "_sign",
        "alg",
        "kid",
        "not_before_us",
        "signs",
        "until_us",
    )

    def __init__(
        self,
        material: object,
        alg: str,
        *,
        kid: str | None = None,
        not_before_us: int = 0,
        until_us: int | None = None,
    ) -> None:
        """Take key material that one of the makers has read; use those.

        Raises:
            KeyRefused: weak, of the wrong type for `alg`, or unreadable.
        """
        algorithm = ALGORITHMS.get(alg)
        if algorithm is None:
            raise KeyRefused(f"alg must be one of {', '.join(sorted(ALGORITHMS))}")
        self.alg = alg
        self._accepts = algorithm.accepts or frozenset({alg})
        self._raw = material
        self.signs = isinstance(material, bytes) or hasattr(material, "private_bytes")
        self.not_before_us = whole("not_before_us", not_before_us)
        self.until_us = None if until_us is None else whole("until_us", until_us, most=LARGEST_INT)
        self._sign, self._check = _prepare(algorithm, material)
        if kid is not None and not (0 < len(kid) <= 256 and kid.isascii() and kid.isprintable()):
            raise KeyRefused("a kid must be 1..256 printable ASCII characters")
        self.kid = kid if kid is not None else self.thumbprint()

    @classmethod
    def generate(
        cls,
        alg: str,
        *,
        kid: str | None = None,
        not_before_us: int = 0,
        until_us: int | None = None,
    ) -> Key:
        """Draw a new key; RSA: 3,072 bits, which takes up to seconds."""
        maker = MAKERS.get(alg)
        if maker is None:
            raise KeyRefused(f"alg must be one of {', '.join(sorted(ALGORITHMS))}")
        return cls(maker(), alg, kid=kid, not_before_us=not_before_us, until_us=until_us)

    @classmethod
    def from_secret(cls, secret: bytes, alg: str = "HS256", *, kid: str | None = None) -> Key:
        """Take a symmetric secret, at least as long as the algorithm's hash (RFC 7518 section 3.2)."""
        if not isinstance(secret, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a checker
            raise KeyRefused("a secret must be bytes; decode the text that it is stored as")
        if ALGORITHMS.get(alg, ALGORITHMS["ES256"]).kind != "oct":
            raise KeyRefused(f"{alg} takes no symmetric secret")
        return cls(secret, alg, kid=kid)

    @classmethod
    def from_pem(
        cls,
        pem: bytes | str,
        alg: str | None = None,
        *,
        kid: str | None = None,
        password: bytes | None = None,
    ) -> Key:
        """Read a private or public PEM (PKCS#8, PKCS#1, SEC1, SubjectPublicKeyInfo).

        Args:
            pem: the text.
            alg: may be None where the key type leaves one; an RSA key must say it.
            kid: None: the thumbprint.
            password: of an encrypted private key.
        """
        data = pem.encode() if isinstance(pem, str) else pem
        if b"PRIVATE KEY-----" in data:
            material: object = _attempt(lambda: serialization.load_pem_private_key(data, password))
        else:
            material = _attempt(lambda: serialization.load_pem_public_key(data))
        if material is None:
            raise KeyRefused("this is no readable PEM key, or its password is another")
        return cls(material, alg or _default_alg(material), kid=kid)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any], alg: str | None = None) -> Key:
        """Read a JWK (RFC 7517), private, public or symmetric; `nbf` and `exp` (seconds) bound its life.

        Raises:
            KeyRefused: `use` or `key_ops` forbid signatures, `alg` differs from the JWK's, or it is unreadable.
        """
        _refuse_wrong_use(jwk)
        named = jwk.get("alg")
        if named is not None and alg is not None and named != alg:
            raise KeyRefused("the JWK names another alg than asked for")
        chosen = named or alg or BY_CURVE.get(str(jwk.get("crv")))
        if not isinstance(chosen, str) or chosen not in ALGORITHMS:
            raise KeyRefused("the JWK names no alg that is known, and none was given")
        kid = jwk.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise KeyRefused("the JWK's kid must be text")
        return cls(
            _material(jwk, ALGORITHMS[chosen]),
            chosen,
            kid=kid,
            not_before_us=_moment(jwk, "nbf") or 0,
            until_us=_moment(jwk, "exp"),
        )

    def accepts(self, alg: object) -> bool:
        """Tell whether a header's `alg` is this key's."""
        return alg in self._accepts

    def sign(self, message: bytes) -> bytes:
        """Return the signature's bytes; `KeyRefused` from a key that only verifies."""
        return self._sign(message)

    def check(self, message: bytes, segment: bytes) -> bool:
        """Tell whether a canonical base64url segment is this key's signature of `message`."""
        return self._check(message, segment)

    def jwk(self, *, private: bool = False) -> dict[str, Any]:
        """Return the JWK; the public part unless `private`, which a symmetric key has none of.

        Raises:
            KeyRefused: the public part of a symmetric key was asked for.
        """
        if isinstance(self._raw, bytes) and not private:
            raise KeyRefused(f"key {self.kid!r} is symmetric: it has no public part")
        members = {
            **_members(self._raw, private=private),
            "kid": self.kid,
            "alg": self.alg,
            "use": "sig",
        }
        if private:
            if self.not_before_us:
                members["nbf"] = self.not_before_us // SECOND_US
            if self.until_us is not None:
                members["exp"] = self.until_us // SECOND_US
        return members

    def thumbprint(self) -> str:
        """Return the RFC 7638 thumbprint with SHA-256; of a symmetric key it reveals nothing useful of 32 random bytes."""
        members = _members(self._raw, private=isinstance(self._raw, bytes))
        required = {name: members[name] for name in _REQUIRED[members["kty"]]}
        text = json.dumps(required, separators=(",", ":"), sort_keys=True)
        return encode(hashlib.sha256(text.encode()).digest()).decode()

    def lasting(self, *, not_before_us: int | None = None, until_us: int | None = None) -> Key:
        """Return the same key with another life; None keeps a bound."""
        return Key(
            self._raw,
            self.alg,
            kid=self.kid,
            not_before_us=self.not_before_us if not_before_us is None else not_before_us,
            until_us=self.until_us if until_us is None else until_us,
        )

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, alg={self.alg!r}, signs={self.signs})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys do not pickle: send the key's id, and load the key there")


def _prepare(
    algorithm: Algorithm, material: object
) -> tuple[Callable[[bytes], bytes], Callable[[bytes, bytes], bool]]:
    if algorithm.kind == "oct":
        return _prepare_hmac(algorithm, material)
    _refuse_weak(algorithm, material)
    peer: Any = jwt.get_algorithm_by_name("EdDSA" if algorithm.kind == "OKP" else algorithm.name)
    private: Any = material if hasattr(material, "private_bytes") else None
    public: Any = cast("Any", material).public_key() if private is not None else material

    def sign(message: bytes) -> bytes:
        if private is None:
            raise KeyRefused("a key that only verifies was asked to sign")
        return cast("bytes", peer.sign(message, private))

    def check(message: bytes, segment: bytes) -> bool:
        try:
            signature = decode(segment)
        except ValueError:
            return False
        return bool(peer.verify(message, public, signature))

    return sign, check


def _prepare_hmac(
    algorithm: Algorithm, material: object
) -> tuple[Callable[[bytes], bytes], Callable[[bytes, bytes], bool]]:
    assert algorithm.hash is not None  # noqa: S101 - the table says so
    if not isinstance(material, bytes):
        raise KeyRefused(f"{algorithm.name} takes a symmetric secret")
    least = algorithm.hash().digest_size
    if len(material) < least:
        raise KeyRefused(
            f"{algorithm.name} needs at least {least} bytes (RFC 7518 section 3.2), got {len(material)}"
        )
    if len(set(material)) < LEAST_DISTINCT_BYTES:
        raise KeyRefused(
            "the secret has hardly any different bytes; draw it: secrets.token_bytes(64)"
        )
    if _looks_like_key(material):
        raise KeyRefused(
            "an asymmetric key, a certificate or a JWK stands where a symmetric secret should"
        )
    # Keyed once: a copy of the state costs half of keying anew.
    keyed = hmac.new(material, digestmod=algorithm.hash)
    copy, equal = keyed.copy, hmac.compare_digest
    padding = -least % 3
    end = (least + padding) // 3 * 4 - padding

    def sign(message: bytes) -> bytes:
        mac = copy()
        mac.update(message)
        return mac.digest()

    def check(message: bytes, segment: bytes) -> bool:
        mac = copy()
        mac.update(message)
        # Comparing the text, not the bytes, refuses every other spelling of the same signature.
        return equal(b2a_base64(mac.digest()).translate(_TO_URL)[:end], segment)

    return sign, check


def _looks_like_key(secret: bytes) -> bool:
    """Tell whether a secret is a public thing in disguise: PEM, OpenSSH, DER, bare base64, certificate, JWK (CVE-2022-29217)."""
    bare = _attempt(lambda: b64decode(b"".join(secret.split()), validate=True))
    return any(map(_is_key, filter(None, (secret, bare))))


def _is_key(secret: bytes) -> bool:
    if _attempt(lambda: jwt.get_algorithm_by_name("HS256").prepare_key(secret)) is None:
        return True
    return _attempt(lambda: serialization.load_der_private_key(secret, None)) is not None


def _refuse_weak(algorithm: Algorithm, material: object) -> None:
    if algorithm.kind == "RSA":
        _refuse_weak_rsa(algorithm, material)
    elif algorithm.kind == "EC":
        curve = cast("Any", material).curve.name if isinstance(material, _EC) else ""
        if _CURVE_NAMES.get(curve) != algorithm.curve:
            raise KeyRefused(f"{algorithm.name} takes a key on {algorithm.curve}")
    elif not isinstance(material, _OKP):
        raise KeyRefused(f"{algorithm.name} takes an Ed25519 or Ed448 key")
    elif algorithm.name == "Ed25519" and isinstance(material, _ED448):
        raise KeyRefused("Ed25519 takes an Ed25519 key")


def _refuse_weak_rsa(algorithm: Algorithm, material: object) -> None:
    if not isinstance(material, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        raise KeyRefused(f"{algorithm.name} takes an RSA key")
    public = material.public_key() if isinstance(material, rsa.RSAPrivateKey) else material
    numbers = public.public_numbers()
    if numbers.n.bit_length() < LEAST_RSA_BITS:
        raise KeyRefused(f"RSA needs at least {LEAST_RSA_BITS} bits, got {numbers.n.bit_length()}")
    if numbers.e < 65537 or is_roca(numbers.n):
        raise KeyRefused("the RSA key is weak: a small exponent, or the ROCA fingerprint")


def _refuse_wrong_use(jwk: Mapping[str, Any]) -> None:
    if jwk.get("use", "sig") != "sig":
        raise KeyRefused("the JWK's use is not sig")
    operations: object = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or not {"sign", "verify"} & {
        str(o) for o in cast("list[object]", operations)
    }:
        raise KeyRefused("the JWK's key_ops allow neither sign nor verify")


def _material(jwk: Mapping[str, Any], algorithm: Algorithm) -> object:
    if jwk.get("kty") != algorithm.kind:
        raise KeyRefused(f"{algorithm.name} takes a JWK of kty {algorithm.kind}")
    if algorithm.kind == "oct":
        secret = _attempt(lambda: decode(jwk["k"].encode("ascii")))
        if secret is None:
            raise KeyRefused("the JWK's k must be canonical base64url")
        return secret
    peer = jwt.get_algorithm_by_name("EdDSA" if algorithm.kind == "OKP" else algorithm.name)
    material = _attempt(lambda: cast("object", peer.from_jwk(dict(jwk))))
    if material is None:
        raise KeyRefused(f"the JWK cannot be read as a key for {algorithm.name}")
    return material


def _members(material: object, *, private: bool) -> dict[str, Any]:
    """Return a key's own members as JWK."""
    if isinstance(material, bytes):
        return {"kty": "oct", "k": encode(material).decode()}
    known: Any = (
        material
        if private or not hasattr(material, "private_bytes")
        else cast("Any", material).public_key()
    )
    name = "RS256" if isinstance(known, _RSA) else "ES256" if isinstance(known, _EC) else "EdDSA"
    found: dict[str, Any] = cast("Any", jwt.get_algorithm_by_name(name)).to_jwk(known, as_dict=True)
    return {key: value for key, value in found.items() if key != "key_ops"}


def _moment(jwk: Mapping[str, Any], member: str) -> int | None:
    value = jwk.get(member)
    if value is None:
        return None
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not 0 <= value < LARGEST_INT // SECOND_US
    ):
        raise KeyRefused(f"the JWK's {member} must be whole seconds")
    return value * SECOND_US


def _default_alg(material: object) -> str:
    if isinstance(material, _EC):
        return BY_CURVE.get(_CURVE_NAMES.get(cast("Any", material).curve.name, ""), "ES256")
    if isinstance(material, _OKP):
        return "EdDSA"
    raise KeyRefused("this type of key serves several algorithms; say which: alg='RS256'")


def _attempt(work: Callable[[], T]) -> T | None:
    """Return what `work` does, or None: the errors of key loaders quote keys, so that not even a chain keeps them."""
    try:
        return work()
    except Exception:  # noqa: BLE001 - loaders raise a dozen kinds
        return None


_RSA = (rsa.RSAPrivateKey, rsa.RSAPublicKey)
_EC = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
_ED448 = (ed448.Ed448PrivateKey, ed448.Ed448PublicKey)
_OKP = (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey, *_ED448)
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_REQUIRED = {
    "oct": ("k", "kty"),
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}
_TO_URL = bytes.maketrans(b"+/", b"-_")
