"""Compact JWS: what the RFCs sign is accepted, and nothing else."""

import json
import string

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backendkit.tokens import jws
from backendkit.tokens.encoding import decode, encode
from backendkit.tokens.errors import InvalidToken
from backendkit.tokens.keys import Key
from backendkit.tokens.ring import KeyRing
from tests.ground.loops import spending
from tests.unit.tokens.vectors import EXAMPLES, THUMBPRINTS, UNSECURED, Example

ALGORITHMS = [
    "HS256",
    "HS384",
    "HS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
    "RS256",
    "PS256",
]
RINGS = {alg: KeyRing.generate(alg) for alg in ALGORITHMS}
TOKENS = {
    alg: jws.sign(b'{"sub":"a","n":[1,{"b":"\\u00e4"}]}', ring.keys[0], typ="JWT")
    for alg, ring in RINGS.items()
}
URL_SAFE = string.ascii_letters + string.digits + "-_"


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: one.name)
def test_the_rfcs_examples_verify(one: Example) -> None:
    """Each compact example of RFC 7515, 7520 and 8037 gives its payload back, byte for byte."""
    verified = jws.verify(one.token, KeyRing([Key.from_jwk(one.jwk, one.alg)]))
    assert verified.payload == one.payload
    assert verified.header["alg"] == one.alg


def test_the_unsecured_example_is_refused() -> None:
    """RFC 7515 A.5 is `alg: none`; no ring accepts it."""
    for ring in RINGS.values():
        with pytest.raises(InvalidToken):
            jws.verify(UNSECURED, ring)


@pytest.mark.parametrize(("name", "jwk", "thumbprint"), THUMBPRINTS)
def test_thumbprints_are_the_rfcs(name: str, jwk: dict[str, str], thumbprint: str) -> None:
    """A key without an id is called by its RFC 7638 thumbprint."""
    assert Key.from_jwk(jwk).kid == thumbprint


def test_ed25519_signs_what_rfc_8037_signs() -> None:
    """Ed25519 is deterministic: the private key of A.1 makes the token of A.4, but for our header."""
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }
    token = jws.sign_with(
        encode(b'{"alg":"EdDSA"}'), b"Example of Ed25519 signing", Key.from_jwk(jwk)
    )
    assert token == EXAMPLES[-1].token


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_every_change_of_one_character_is_refused(alg: str) -> None:
    """No position, and neither a changed, an added nor a lost character, leaves a token valid."""
    ring, token = RINGS[alg], TOKENS[alg]
    jws.verify(token, ring)
    for place, old in enumerate(token):
        swapped = "A" if old != "A" else "B"
        after = URL_SAFE[(URL_SAFE.find(old) + 1) % 64]
        for changed in (swapped, after, "=", "+", "", old + "A", "\u212a"):
            if changed != old:
                with pytest.raises(InvalidToken):
                    jws.verify(token[:place] + changed + token[place + 1 :], ring)


@pytest.mark.parametrize("alg", ["HS256", "ES256", "EdDSA"])
def test_nothing_may_stand_before_or_behind(alg: str) -> None:
    """Padding and white space make another string, and so an invalid one."""
    token = TOKENS[alg]
    for other in (
        token + "=",
        token + "==",
        token + "\n",
        " " + token,
        token + ".",
        "." + token,
        token + ".",
    ):
        with pytest.raises(InvalidToken):
            jws.verify(other, RINGS[alg])


@given(
    st.one_of(st.text(), st.binary(), st.from_regex(r"[\w\-=+/.\n]{0,60}")),
    st.sampled_from(ALGORITHMS),
)
@example("..", "HS256")
@example("\ud800.a.b", "HS256")
def test_only_our_error_is_raised_for_any_bytes(junk: str | bytes, alg: str) -> None:
    """Whatever arrives, callers need to know one error."""
    with pytest.raises(InvalidToken):
        jws.verify(junk, RINGS[alg])


@given(st.binary(max_size=80), st.binary(max_size=80), st.sampled_from(["HS256", "ES256", "EdDSA"]))
def test_only_our_error_is_raised_for_any_header(header: bytes, signature: bytes, alg: str) -> None:
    """Canonical base64 of any bytes gets as far as the header, and no further."""
    token = b".".join((encode(header) or b"A", b"e30", encode(signature) or b"A"))
    with pytest.raises(InvalidToken):
        jws.verify(token, RINGS[alg])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["typ", "crit", "b64", "cty", "jwk", "x5c", "zip", "foo"]), _JSON
    ),
    st.sampled_from(ALGORITHMS),
    st.binary(min_size=1, max_size=40),
)
def test_what_we_accept_pyjwt_accepts_as_well(
    extra: dict[str, object], alg: str, payload: bytes
) -> None:
    """Our strictness only ever takes away, measured against PyJWT with the same key."""
    key = RINGS[alg].keys[0]
    header = json.dumps({"alg": key.alg, "kid": key.kid, **extra}).encode()
    token = jws.sign_with(encode(header), payload, key)
    try:
        verified = jws.verify(token, RINGS[alg])
    except InvalidToken:
        return
    assert verified.payload == payload
    if alg != "Ed25519":
        theirs = jwt.PyJWK(key.jwk(private=alg.startswith("HS")))
        assert jwt.PyJWS().decode(token, theirs, algorithms=[alg]) == payload


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none","kid":"K"}', '{"alg":"None","kid":"K"}', '{"alg":"nOnE","kid":"K"}',
        '{"alg":"","kid":"K"}', '{"alg":null,"kid":"K"}', '{"kid":"K"}', '{"alg":["EdDSA"],"kid":"K"}',
        '{"alg":"HS256","kid":"K"}', '{"alg":"eddsa","kid":"K"}', '{"alg":"EdDSA ","kid":"K"}',
        '{"alg":"EdDSA","kid":"K","crit":["exp"]}', '{"alg":"EdDSA","kid":"K","crit":[]}',
        '{"alg":"EdDSA","kid":"K","b64":false,"crit":["b64"]}', '{"alg":"EdDSA","kid":"K","b64":true}',
        '{"alg":"EdDSA","kid":"K","alg":"EdDSA"}', '{"alg":"none","alg":"EdDSA","kid":"K"}',
        '{"alg":"EdDSA","kid":"../../etc/passwd"}', '{"alg":"EdDSA","kid":"\' OR 1=1 --"}',
        '{"alg":"EdDSA","kid":1}', '{"alg":"EdDSA","kid":["K"]}', '{"alg":"EdDSA","kid":null}',
        '{"alg":"EdDSA","kid":{"K":1}}', '{"alg":"EdDSA","kid":""}', '{"alg":"EdDSA","kid":"\\ud800"}',
        '["EdDSA"]', '"EdDSA"', "null", "", "{", '{"alg":"EdDSA","kid":"K"} x', '{"alg":"EdDSA","kid":"K","x":NaN}',
        "\ufeff" + '{"alg":"EdDSA","kid":"K"}', '{"alg":"EdDSA","kid":"K","x":' + "[" * 400 + "]" * 400 + "}0",
        '{"alg":"EdDSA","kid":"' + "k" * 900 + '"}',
        '{"alg":"EdDSA","kid":"K","x":"' + "k" * 1000 + '"}',
    ],
)  # fmt: skip
def test_a_header_that_is_not_as_it_should_be_is_refused(header: str) -> None:
    """Though a good key of the ring has signed it, and though it names that key."""
    key = RINGS["EdDSA"].keys[0]
    ring = KeyRing([Key(key._raw, "EdDSA", kid="K")])
    jws.verify(jws.sign_with(encode(b'{"alg":"EdDSA","kid":"K"}'), b"x", key), ring)
    with pytest.raises(InvalidToken):
        jws.verify(jws.sign_with(encode(header.encode()) or b"A", b"x", key), ring)


def test_keys_offered_by_a_token_are_never_followed() -> None:
    """`jwk`, `jku`, `x5u` and `x5c` of a stranger: the ring's key decides, and it did not sign."""
    ours, theirs = RINGS["ES256"], KeyRing.generate("ES256")
    stranger = theirs.keys[0]
    for member in (
        {"jwk": stranger.jwk()},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
    ):
        header = json.dumps({"alg": "ES256", "kid": ours.keys[0].kid, **member}).encode()
        with pytest.raises(InvalidToken):
            jws.verify(jws.sign_with(encode(header), b"x", stranger), ours)


def test_a_token_without_kid_needs_a_ring_of_one() -> None:
    """Where several keys could have signed, trying them all is no answer."""
    key, other = RINGS["ES256"].keys[0], Key.generate("ES256")
    token = jws.sign_with(encode(b'{"alg":"ES256"}'), b"x", key)
    assert jws.verify(token, KeyRing([key])).payload == b"x"
    with pytest.raises(InvalidToken):
        jws.verify(token, KeyRing([key, other]))


def test_json_serialisation_and_detached_payloads_are_refused() -> None:
    """Only the compact form has one reading."""
    header, payload, signature = TOKENS["ES256"].split(".")
    flat = json.dumps({"protected": header, "payload": payload, "signature": signature})
    for other in (
        flat,
        f"{header}..{signature}",
        f"{header}.{payload}.",
        f".{payload}.{signature}",
    ):
        with pytest.raises(InvalidToken):
            jws.verify(other, RINGS["ES256"])


def test_junk_costs_the_same_however_long() -> None:
    """A mebibyte is refused by its length: within 20 us, and no slower than what is just over the cap."""
    ring = RINGS["HS256"]

    def cost(junk: str) -> float:
        best = 1.0
        for _ in range(20):
            with spending() as spent, pytest.raises(InvalidToken):
                jws.verify(junk, ring)
            best = min(best, spent.thread_cpu)
        return best

    assert cost("a." * (1 << 19)) < cost("a." * 5_000) + 20e-6


@given(st.binary(max_size=300))
def test_base64url_round_trips(data: bytes) -> None:
    """One text per value, both ways."""
    assert decode(encode(data)) == data


@given(st.text(URL_SAFE + "=+/ \n\x00\xff", max_size=12))
def test_only_the_canonical_text_is_decoded(text: str) -> None:
    """What decodes encodes to the same text."""
    try:
        data = decode(text.encode("latin-1"))
    except ValueError:
        return
    assert encode(data) == text.encode()


def test_a_key_past_its_end_verifies_nothing() -> None:
    """A ring keeps an old key until its last token has expired, and not an instant longer."""
    key = Key.generate("ES256", until_us=1_000)
    token = jws.sign(b"x", key)
    assert jws.verify(token, KeyRing([key]), now_us=999).payload == b"x"
    with pytest.raises(InvalidToken):
        jws.verify(token, KeyRing([key]), now_us=1_000)
