"""Claims: what one issuer's tokens must say, whatever clever thing they say instead."""

import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.tokens import jws
from backendkit.tokens.encoding import load_object
from backendkit.tokens.errors import InvalidToken, TokenExpired
from backendkit.tokens.keys import Key
from backendkit.tokens.principal import Principal
from backendkit.tokens.recent import Recent
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.verifier import Verifier

ISSUER, AUDIENCE = "https://id.example", "api"
NOW = 1_790_000_000
RING = KeyRing.generate("HS256")
CURVE = KeyRing.generate("ES256")
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "exp": NOW + 900, "iat": NOW, "jti": "j", "roles": ["a"],
}  # fmt: skip


def verifier(ring: KeyRing = RING, clock: ManualClock | None = None, **options: Any) -> Verifier:
    """Return the strict preset."""
    given_options: dict[str, Any] = {
        "issuer": ISSUER, "audience": AUDIENCE, "typ": "at+jwt",
        "require": ("iss", "sub", "aud", "exp", "iat", "jti"), **options,
    }  # fmt: skip
    return Verifier(ring, clock=clock or ManualClock(), **given_options)


def token(ring: KeyRing = RING, typ: str | None = "at+jwt", **changes: Any) -> str:
    """Return a signed token of the usual claims, changed; `...` leaves one out."""
    claims = {k: v for k, v in {**CLAIMS, **changes}.items() if v is not ...}
    return jws.sign(json.dumps(claims).encode(), ring.keys[0], typ=typ)


def test_a_good_token_gives_its_claims_read_only() -> None:
    """Through and through: a cached token is shared by all who present it."""
    claims = verifier().verify(token(extra={"a": [1]}))
    assert (claims["sub"], claims["roles"], claims["extra"]["a"]) == ("user-1", ("a",), (1,))
    with pytest.raises(TypeError):
        claims["sub"] = "x"  # type: ignore[index]
    with pytest.raises(TypeError):
        claims["extra"]["a"] = "x"


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "jti"])
def test_each_required_claim_is_required(name: str) -> None:
    """And null is not a value."""
    with pytest.raises(InvalidToken):
        verifier().verify(token(RING, **dict[str, Any]({name: ...})))
    with pytest.raises(InvalidToken):
        verifier().verify(token(RING, **dict[str, Any]({name: None})))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": ISSUER + "/"}, {"iss": ISSUER[:-1]}, {"iss": ISSUER + ".evil"}, {"iss": "https://id"}, {"iss": ""},
        {"iss": [ISSUER]}, {"iss": ISSUER.upper()}, {"iss": {"a": ISSUER}},
        {"aud": "apis"}, {"aud": "ap"}, {"aud": ""}, {"aud": []}, {"aud": ["other"]}, {"aud": ["api", 1]},
        {"aud": [["api"]]}, {"aud": {"api": 1}}, {"aud": 1}, {"aud": True},
        {"exp": str(NOW + 900)}, {"exp": True}, {"exp": [NOW + 900]}, {"exp": {}}, {"exp": 2**53 + 2}, {"exp": 10**400},
        {"iat": str(NOW)}, {"iat": False}, {"iat": NOW + 31}, {"nbf": NOW + 31}, {"nbf": "0"}, {"nbf": None},
        {"nbf": True}, {"nbf": 2**54}, {"iat": -(2**54)},
        {"sub": ""}, {"sub": 1}, {"sub": ["user-1"]}, {"sub": "x" * 1025}, {"jti": 1}, {"jti": ""},
        {"roles": "admin"}, {"roles": [1]}, {"roles": {"admin": 1}}, {"scope": ["a"]}, {"sid": 5},
        {"auth_time": "1"}, {"auth_time": True}, {"ep": -1}, {"ep": 1.5}, {"sub": "\ud800"}, {"other": "\udfff"},
    ],
)  # fmt: skip
def test_claims_that_are_not_as_they_should_be_are_refused(changes: dict[str, Any]) -> None:
    """Wrong type, wrong value, almost right."""
    with pytest.raises(InvalidToken):
        verifier().verify(token(**changes))


@pytest.mark.parametrize(
    "payload",
    [
        "", "[]", "null", "1", '"x"', "{", '{"exp":NaN}', '{"exp":Infinity}', '{"exp":-Infinity}',
        '{"a":1e400,"exp":1e400}', '{"sub":"a","sub":"b"}', '{"a":{"b":1,"b":2}}',
        '{"exp":' + "9" * 5000 + "}", " " + "[" * 3000, "[" * 2000 + "]" * 2000, '{"a":' * 1000 + "1" + "}" * 1000,
        '\ufeff{"a":1}', '{"a":1}x',
    ],
)  # fmt: skip
def test_json_that_tricks_parsers_is_refused_by_our_error(payload: str) -> None:
    """Signed by our own key, and still no other exception comes out."""
    with pytest.raises(InvalidToken):
        verifier().verify(jws.sign(payload.encode() or b" ", RING.keys[0], typ="at+jwt"))
    with pytest.raises(InvalidToken):
        verifier().verify(jws.sign(json.dumps(CLAIMS).encode("utf-16"), RING.keys[0], typ="at+jwt"))


@pytest.mark.parametrize("escape", ["x", "\\u0041"])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_deep_claims_of_an_otherwise_good_token_are_refused(
    opens: str, closes: str, escape: str
) -> None:
    """At any depth by our error, and what passes can be walked through."""

    def nested(depth: int) -> str:
        claims = json.dumps(CLAIMS)[:-1]
        deep = f'{claims},"deep":{opens * depth}"{escape}"{closes * depth}}}'
        return jws.sign(deep.encode(), RING.keys[0], typ="at+jwt")

    assert "deep" in Principal(verifier().verify(nested(63))).as_dict()
    for depth in (66, 200, 400, 600, 800, 900):
        with pytest.raises(InvalidToken):
            verifier().verify(nested(depth))


@pytest.mark.parametrize(
    "payload",
    [
        '{"sub" :"a","sub":"b"}', '{"sub"\n:"a","sub":"b"}', '{"sub"\t:"a","sub"\r:"b"}', ' {"sub":"a","sub":"b"} ',
        '{"sub":"a","s\\u0075b":"b"}', '{"a":{"x":1,"x":2},"b":1}', '{"a":[{"x":1,"x":2}]}',
        '{"sub" : "a", "sub" : "b", "z\\":":1}',
    ],
)  # fmt: skip
def test_a_member_twice_is_found_however_it_is_spelled(payload: str) -> None:
    """Counting is quick, and must not be fooled."""
    with pytest.raises(ValueError, match="twice"):
        load_object(payload.encode())


@given(st.lists(st.tuples(st.sampled_from(["a", "b", 'c"', "d:"]), st.sampled_from(["1", '"x"', "{}", '"\\":"', "[]"])), max_size=5),
       st.sampled_from(["", " ", "\n", "\t", "\r"]), st.sampled_from(["", " "]))  # fmt: skip
def test_counting_finds_what_looking_finds(
    members: list[tuple[str, str]], before: str, after: str
) -> None:
    """Objects of any members and white space: refused exactly if a name stands twice."""
    text = "{" + ",".join(f"{json.dumps(k)}{before}:{after}{v}" for k, v in members) + "}"
    names = [name for name, _ in members]
    if len(set(names)) == len(names):
        assert load_object(text.encode()) == json.loads(text)
    else:
        with pytest.raises(ValueError, match="twice"):
            load_object(text.encode())


def test_expiry_is_exact_and_has_no_leeway() -> None:
    """At `exp` it has expired; a microsecond before it has not."""
    clock = ManualClock((NOW + 900) * SECOND_US - 1)
    verifier(clock=clock).verify(token())
    clock.advance(1)
    with pytest.raises(TokenExpired):
        verifier(clock=clock).verify(token())


def test_another_clock_may_be_thirty_seconds_ahead() -> None:
    """`nbf` and `iat` within the leeway pass; beyond it they do not (above)."""
    verifier().verify(token(nbf=NOW + 30, iat=NOW + 30))
    verifier().verify(token(exp=NOW + 0.5, iat=NOW - 0.25))


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_type_is_compared_as_media_types_are(typ: str) -> None:
    """RFC 7515 section 4.1.9."""
    verifier().verify(token(typ=typ))


@pytest.mark.parametrize(
    "typ", ["JWT", "rt+jwt", "", "at+jwt2", "application/application/at+jwt", None]
)
def test_another_type_is_another_token(typ: str | None) -> None:
    """A refresh token is no access token, and a token that says nothing neither (RFC 8725 section 3.11)."""
    with pytest.raises(InvalidToken):
        verifier().verify(token(typ=typ))


def test_other_issuers_may_leave_the_type_out() -> None:
    """Absent, not wrong."""
    lenient = verifier(typ="JWT", typ_optional=True, require=("sub",), audience=None)
    assert lenient.verify(token(typ=None, aud=...))["sub"] == "user-1"
    with pytest.raises(InvalidToken):
        lenient.verify(token(typ="at+jwt"))


def test_a_header_seen_before_is_checked_for_each_verifiers_type() -> None:
    """Each verifier remembers for itself."""
    other = verifier(typ="rt+jwt")
    verifier().verify(token())
    for _ in range(2):
        with pytest.raises(InvalidToken):
            other.verify(token())


def test_a_remembered_token_still_expires_ends_and_goes_with_its_key() -> None:
    """Each hit looks at the time, the key's life and the ring."""
    clock = ManualClock()
    ring = KeyRing([CURVE.keys[0], Key.generate("ES256")])
    checked = verifier(ring, clock)
    good = token(ring)
    assert checked.verify(good) is checked.verify(good)
    ring.reload([ring.keys[0].lasting(until_us=clock.wall_us() + 10 * SECOND_US)])
    checked.verify(good)
    checked.verify(good)
    clock.advance(10 * SECOND_US)
    with pytest.raises(InvalidToken):
        checked.verify(good)
    ring.reload([Key(CURVE.keys[0]._raw, "ES256", kid=CURVE.keys[0].kid)])
    checked.verify(good)
    clock.advance(890 * SECOND_US)
    with pytest.raises(TokenExpired):
        checked.verify(good)
    clock.step_wall(-900 * SECOND_US)
    checked.verify(good)
    clock.step_wall(-1000 * SECOND_US)
    with pytest.raises(InvalidToken):
        checked.verify(good)
    clock.step_wall(1000 * SECOND_US)
    ring.reload([Key.generate("ES256")])
    with pytest.raises(InvalidToken):
        checked.verify(good)


def test_a_key_taken_out_is_out_at_once_for_known_headers() -> None:
    """The header table belongs to one state of the ring."""
    ring = KeyRing([RING.keys[0]])
    checked = verifier(ring)
    checked.verify(token())
    ring.reload([Key.generate("HS256")])
    with pytest.raises(InvalidToken):
        checked.verify(token())


def test_refusals_are_never_remembered() -> None:
    """Junk must not push good tokens out."""
    checked = verifier(CURVE)
    for number in range(50):
        with pytest.raises(InvalidToken):
            checked.verify(token(CURVE, iss=str(number)))
    assert checked._passed is not None
    assert len(checked._passed) == 0


def test_memory_is_bounded() -> None:
    """Twice the size at most, and what is read stays."""
    memory: Recent[int, int] = Recent(10)
    for number in range(1000):
        memory.put(number, number)
        assert memory.get(0) == 0
        assert len(memory) <= 20


_VALUE = st.one_of(
    st.none(), st.booleans(), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=3),
    st.integers(-(2**60), 2**60), st.floats(), st.just(NOW + 900), st.just(NOW), st.just(NOW + 31),
    st.just(ISSUER), st.just(AUDIENCE), st.just([AUDIENCE]), st.just({}),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*CLAIMS, "nbf", "scope", "x", "sid"]), _VALUE, max_size=5))
def test_what_we_accept_strict_pyjwt_accepts(changes: dict[str, Any]) -> None:
    """With PyJWT's strictest options and the same clock; fractions of a second, which it truncates, apart."""
    text = token(**changes)
    try:
        claims = verifier().verify(text)
    except InvalidToken:
        return
    except TokenExpired:
        return
    options: Any = {"require": ["iss", "sub", "aud", "exp", "iat", "jti"], "verify_exp": False,
                    "verify_nbf": False, "verify_iat": False}  # fmt: skip
    secret: Any = RING.keys[0]._raw
    theirs = jwt.decode(text, secret, ["HS256"], options, audience=AUDIENCE, issuer=ISSUER)
    assert theirs["sub"] == claims["sub"]
    assert int(theirs["exp"]) >= NOW
    assert int(theirs.get("nbf", 0)) <= NOW + 30


@given(st.one_of(st.binary(), st.text()))
def test_nothing_but_our_errors_for_any_payload(junk: str | bytes) -> None:
    """Signed or not."""
    raw = junk.encode("utf-8", "surrogatepass") if isinstance(junk, str) else junk
    for attempt in (junk, jws.sign(raw or b" ", RING.keys[0], typ="at+jwt")):
        with pytest.raises(InvalidToken):
            verifier().verify(attempt)
