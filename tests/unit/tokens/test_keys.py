"""Keys and rings: what must not be used is refused when built, and no secret ever shows."""

import base64
import copy
import json
import pickle
import traceback
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.tokens import jws
from backendkit.tokens.algorithms import is_roca
from backendkit.tokens.errors import InvalidToken, KeyRefused
from backendkit.tokens.keys import Key
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing, hkdf

CANARY = bytes(range(100, 132))
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, *, private: bool) -> bytes:
    """Return a key as PEM."""
    if private:
        return bytes(
            key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
        )
    return bytes(
        key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)
    )


def encodings(public: Any) -> list[bytes]:
    """Return a public key in every encoding in which it may lie about."""
    kinds = ser.PublicFormat
    found = [
        public.public_bytes(ser.Encoding.PEM, kinds.SubjectPublicKeyInfo),
        public.public_bytes(ser.Encoding.DER, kinds.SubjectPublicKeyInfo),
        public.public_bytes(ser.Encoding.OpenSSH, kinds.OpenSSH),
    ]
    if isinstance(public, rsa.RSAPublicKey):
        found += [public.public_bytes(e, kinds.PKCS1) for e in (ser.Encoding.PEM, ser.Encoding.DER)]
        jwk = Key(public, "RS256").jwk()
    else:
        found += [
            public.public_bytes(ser.Encoding.X962, kinds.UncompressedPoint),
            public.public_bytes(ser.Encoding.X962, kinds.CompressedPoint),
        ]
        jwk = Key(public, "ES256").jwk()
    found.append(json.dumps(jwk).encode())
    # DER is no text: one in forty ends in a byte that reads as white space, and a stripped one is no key any more.
    text = [one.strip() for one in found if not one.startswith(b"0")]
    found += text + [base64.b64encode(one) for one in found]
    return found


@pytest.mark.parametrize(("material", "alg"), [(RSA, "RS256"), (RSA, "PS256"), (EC, "ES256")])
def test_a_public_key_is_no_hmac_secret_in_any_encoding(material: Any, alg: str) -> None:
    """CVE-2015-9235 and its kin: HS256 keyed with what everybody knows."""
    ring = KeyRing([Key(material, alg)])
    kid = ring.keys[0].kid
    import hashlib
    import hmac

    from backendkit.tokens.encoding import encode

    for secret in encodings(material.public_key()):
        for claimed in ("HS256", "HS384", "HS512", alg):
            header = encode(json.dumps({"alg": claimed, "kid": kid}).encode())
            signed = header + b".e30"
            digest = f"sha{claimed[2:]}"
            token = (
                signed + b"." + encode(hmac.new(secret, signed, getattr(hashlib, digest)).digest())
            )
            with pytest.raises(InvalidToken):
                jws.verify(token, ring)


def test_what_looks_like_a_public_key_is_refused_as_a_secret() -> None:
    """So that the confusion cannot be configured either."""
    for public in (RSA.public_key(), EC.public_key()):
        looks = [
            e
            for e in encodings(public)
            if e.startswith((b"-----", b"ssh-", b"ecdsa-", b"{", b"0\x82", b"0Y", b"MI", b"MF"))
        ]
        assert len(looks) >= 4
        for secret in looks:
            with pytest.raises(KeyRefused):
                Key.from_secret(secret)


@pytest.mark.parametrize(
    "secret", [b"", b"short", bytes(32), b"k" * 64, b"abcabcabc" * 10, CANARY[:31]], ids=repr
)
def test_weak_secrets_are_refused(secret: bytes) -> None:
    """Too short (RFC 7518 section 3.2), or typed instead of drawn."""
    with pytest.raises(KeyRefused) as caught:
        Key.from_secret(secret)
    assert not secret or repr(secret)[2:-1] not in str(caught.value)


@pytest.mark.parametrize(("alg", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_is_at_least_as_long_as_the_hash(alg: str, least: int) -> None:
    """One byte less is refused."""
    Key.from_secret(bytes(range(least)), alg)
    with pytest.raises(KeyRefused):
        Key.from_secret(bytes(range(least - 1)), alg)


def test_weak_rsa_keys_are_refused() -> None:
    """1,024 bits; the exponent 3; a modulus with the ROCA fingerprint."""
    with pytest.raises(KeyRefused):
        Key(rsa.generate_private_key(65537, 1024), "RS256")
    with pytest.raises(KeyRefused):
        Key(rsa.generate_private_key(3, 2048), "RS256")
    assert not is_roca(RSA.public_key().public_numbers().n)
    assert is_roca(pow(65537, 12345))


def test_a_key_fits_its_algorithm() -> None:
    """ES256 on P-384, RS256 with an EC key, HS256 with RSA: refused when built."""
    with pytest.raises(KeyRefused):
        Key(ec.generate_private_key(ec.SECP384R1()), "ES256")
    with pytest.raises(KeyRefused):
        Key(ec.generate_private_key(ec.SECP256K1()), "ES256")
    for alg in ("RS256", "HS256", "EdDSA", "ES384", "none", "HS1"):
        with pytest.raises(KeyRefused):
            Key(EC, alg)
    with pytest.raises(KeyRefused):
        Key(RSA, "ES256")


def test_pem_is_read_and_rsa_has_to_name_its_algorithm() -> None:
    """A PEM does not say what it is for."""
    assert Key.from_pem(pem(EC, private=True)).alg == "ES256"
    assert not Key.from_pem(pem(EC, private=False).decode()).signs
    assert Key.from_pem(pem(RSA, private=True), "PS256").alg == "PS256"
    with pytest.raises(KeyRefused, match="alg="):
        Key.from_pem(pem(RSA, private=True))
    with pytest.raises(KeyRefused):
        Key.from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")


@pytest.mark.parametrize(
    "alg", ["HS256", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "RS256", "PS512"]
)
def test_a_jwk_brings_a_key_back(alg: str) -> None:
    """Private members, id, algorithm and life survive; the public part holds no secret."""
    key = (
        Key(RSA, alg, not_before_us=SECOND_US, until_us=9 * SECOND_US)
        if "S2" in alg and alg[0] in "RP"
        else (Key.generate(alg, not_before_us=SECOND_US, until_us=9 * SECOND_US))
    )
    again = Key.from_jwk(json.loads(json.dumps(key.jwk(private=True))))
    assert (again.kid, again.alg, again.not_before_us, again.until_us) == (
        key.kid,
        alg,
        SECOND_US,
        9 * SECOND_US,
    )
    assert jws.verify(jws.sign(b"x", again), KeyRing([key])).payload == b"x"
    if alg != "HS256":
        public = key.jwk()
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & public.keys()
        assert jws.verify(jws.sign(b"x", key), KeyRing([Key.from_jwk(public)])).payload == b"x"


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": "sign"}, {"alg": "ES384"}, {"alg": 1},
        {"kty": "oct"}, {"x": "AA"}, {"x": 5}, {"kid": 5}, {"kid": ""}, {"kid": "k" * 300}, {"crv": "P-384"},
        {"nbf": "1"}, {"exp": -1}, {"exp": True},
    ],
)  # fmt: skip
def test_a_jwk_that_must_not_be_used_is_refused_without_showing_it(change: dict[str, Any]) -> None:
    """PyJWT prints the whole JWK into its exceptions, the private members included."""
    jwk = {**Key(EC, "ES256").jwk(private=True), **change}
    with pytest.raises(KeyRefused) as caught:
        Key.from_jwk(jwk)
    shown = "".join(traceback.format_exception(caught.value))
    assert jwk["d"] not in shown
    assert caught.value.__context__ is None


def test_rings_refuse_what_confuses() -> None:
    """No key, symmetric beside asymmetric, one id twice."""
    symmetric, asymmetric = Key.from_secret(CANARY), Key(EC, "ES256")
    for keys in ([], [symmetric, asymmetric], [asymmetric, asymmetric]):
        with pytest.raises(KeyRefused):
            KeyRing(keys)


def test_a_refused_reload_leaves_the_ring_as_it_was() -> None:
    """A bad file at two in the morning must not end every session."""
    ring = KeyRing([Key(EC, "ES256")])
    before = ring.snapshot
    with pytest.raises(KeyRefused):
        ring.reload([])
    assert ring.snapshot is before


def test_a_ring_is_read_from_text() -> None:
    """JWK Set, JWK, one PEM, several PEM: what an environment variable or a file holds."""
    key = Key(EC, "ES256")
    one = json.dumps(key.jwk(private=True))
    for text in (one, json.dumps({"keys": [json.loads(one)]}), pem(EC, private=True).decode()):
        assert KeyRing.from_text(text).active(0).kid == key.kid
    other = ec.generate_private_key(ec.SECP256R1())
    both = (pem(EC, private=True) + b"\n" + pem(other, private=False)).decode()
    assert len(KeyRing.from_text(both).keys) == 2
    for text in ("", "{", "[]", '{"keys":5}', '{"keys":[5]}', "{" * 3000):
        with pytest.raises(KeyRefused):
            KeyRing.from_text(text)


def test_the_key_that_signs_changes_at_its_moment_and_both_verify() -> None:
    """A rotation as the command makes it: published first, signing later, the old one verifying until its end."""
    now = 1_000_000 * SECOND_US
    ring = KeyRing([Key(EC, "ES256")])
    old = ring.active(now)
    ring.reload(ring.rotated("ES256", now, ahead_s=100, longest_token_s=50))
    takes_over = now + 100 * SECOND_US
    assert ring.active(takes_over - 1).kid == old.kid
    new = ring.active(takes_over)
    assert new.kid != old.kid
    assert {k["kid"] for k in ring.jwks(now)["keys"]} == {old.kid, new.kid}
    kept = ring.get(old.kid)
    assert kept is not None
    assert kept.until_us == takes_over + 50 * SECOND_US
    assert [k["kid"] for k in ring.jwks(kept.until_us)["keys"]] == [new.kid]
    later = ring.rotated("ES256", kept.until_us, ahead_s=1)
    assert old.kid not in {key.kid for key in later}


def test_a_ring_of_verifying_keys_signs_nothing() -> None:
    """And says what to do."""
    public = KeyRing([Key.from_jwk(Key(EC, "ES256").jwk())])
    with pytest.raises(KeyRefused):
        public.active(0)
    with pytest.raises(KeyRefused):
        public.keys[0].sign(b"x")


def test_a_symmetric_ring_publishes_nothing() -> None:
    """A JWKS of secrets would hand out the power to sign."""
    with pytest.raises(KeyRefused):
        KeyRing([Key.from_secret(CANARY)]).jwks()


def test_hkdf_gives_what_rfc_5869_says() -> None:
    """Appendix A.1."""
    out = hkdf(b"\x0b" * 22, bytes(range(0xF0, 0xFA)), salt=bytes(range(13)), length=42)
    assert out.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_each_purpose_has_a_key_of_its_own() -> None:
    """What is signed for one purpose is not accepted for another."""
    ring = SecretRing({"a": CANARY})
    token = jws.sign(b"x", ring.active("refresh"))
    assert jws.verify(token, ring.keys("refresh")).payload == b"x"
    for purpose in ("csrf", "one-time"):
        with pytest.raises(InvalidToken):
            jws.verify(token, ring.keys(purpose))


def test_old_secrets_still_verify_and_the_first_signs() -> None:
    """Rotating secrets ends no session."""
    old = SecretRing({"a": CANARY})
    new = SecretRing.from_text(f"b:{bytes(range(40)).hex()}, a:{CANARY.hex()}")
    assert new.active_id == "b"
    assert jws.verify(jws.sign(b"x", old.active("refresh")), new.keys("refresh")).payload == b"x"
    for text in (
        "",
        "a",
        "a:zz",
        f"a:{CANARY.hex()} a:{CANARY.hex()}",
        "a b:00",
        f"a!:{CANARY.hex()}",
        "a:" + "00" * 32,
    ):
        with pytest.raises(KeyRefused):
            SecretRing.from_text(text)


def test_no_secret_shows_in_repr_str_or_pickle() -> None:
    """Canaries in every form in which a secret could come out."""
    key, ring, secret = (
        Key.from_secret(CANARY, kid="k"),
        KeyRing([Key(EC, "ES256")]),
        SecretRing({"a": CANARY}),
    )
    for thing in (key, ring, secret, ring.keys[0], KeyRing([key])):
        for text in (repr(thing), str(thing), f"{thing}"):
            for form in (
                CANARY.hex(),
                base64.b64encode(CANARY).decode()[:20],
                repr(CANARY)[2:20],
                "BEGIN",
            ):
                assert form not in text
        for way in (pickle.dumps, copy.deepcopy, copy.copy):
            with pytest.raises(TypeError):
                way(thing)


def test_a_published_key_set_has_bytes_that_stay_and_a_tag_that_goes_with_them() -> None:
    """Same keys, same bytes, same tag; another key, another tag; what has ended is gone; no private member."""
    ring = KeyRing([Key.generate("EdDSA"), Key.generate("ES256", until_us=5)])
    first, again, later = ring.document(0), ring.document(1), ring.document(5, max_age=60)
    assert (first.body, first.etag) == (again.body, again.etag)
    assert later.etag != first.etag
    assert later.etag.startswith('"')
    assert [k["kid"] for k in json.loads(later.body)["keys"]] == [ring.keys[0].kid]
    assert all("d" not in key for key in json.loads(first.body)["keys"])
    assert (first.cache_control, later.cache_control) == (
        "public, max-age=3600",
        "public, max-age=60",
    )
    with pytest.raises(InvalidArgument, match="max_age"):
        ring.document(0, max_age=3_601)
    with pytest.raises(KeyRefused):
        KeyRing([Key.generate("HS256")]).document()
