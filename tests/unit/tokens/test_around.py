"""Guards, one-time tokens, API keys, second factors."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import AppError, InvalidArgument, RateLimited
from backendkit.stores import MemoryStore
from backendkit.tokens.api_keys import ApiKeys, MemoryApiKeys
from backendkit.tokens.errors import (
    AccessDenied,
    AlreadyEnrolled,
    InsufficientScope,
    InvalidToken,
    NotAuthenticated,
    StaleLogin,
    TokenExpired,
)
from backendkit.tokens.guards import (
    Permissions,
    Rule,
    all_of,
    any_of,
    fresh,
    has_roles,
    has_scopes,
    is_owner,
    owner_or_roles,
    require,
    where,
)
from backendkit.tokens.one_time import OneTime
from backendkit.tokens.principal import Principal
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.totp import Factor, MemoryFactors, SecondFactor, hotp, totp
from tests.ground.loops import in_threads

SECRET = SecretRing.generate()


def who(
    *roles: str, scope: str = "", subject: str = "u1", auth_time: int | None = None
) -> Principal:
    """Return a principal."""
    claims: dict[str, Any] = {"sub": subject, "roles": roles, "scope": scope}
    if auth_time is not None:
        claims["auth_time"] = auth_time
    return Principal(claims)


ADMIN, EDITOR = has_roles("admin"), has_roles("editor")
PERMISSIONS = Permissions(
    {"reader": ["post:read"], "editor": ["post:write"], "root": ["*"]},
    includes={"editor": ["reader"], "chief": ["editor"]},
)


@pytest.mark.parametrize(
    ("rule", "principal", "error"),
    [
        (ADMIN, None, NotAuthenticated), (ADMIN, who("admin"), None), (ADMIN, who("editor"), AccessDenied),
        (has_roles("a", "b"), who("a"), AccessDenied), (has_roles("a", "b"), who("a", "b"), None),
        (ADMIN | EDITOR, who("editor"), None), (ADMIN | EDITOR, who("x"), AccessDenied),
        (ADMIN & EDITOR, who("editor"), AccessDenied), (ADMIN & EDITOR, who("editor", "admin"), None),
        (has_scopes("read", "write"), who(scope="read"), InsufficientScope),
        (has_scopes("read"), who(scope="read write"), None), (has_scopes("rea"), who(scope="read"), InsufficientScope),
        (ADMIN | has_scopes("s"), who(), InsufficientScope),
        ((ADMIN & has_scopes("s")) | EDITOR, who("editor"), None),
        (is_owner(lambda _, thing: thing), who(subject="t"), None), (is_owner(lambda *_: None), who(), AccessDenied),
        (is_owner(lambda *_: "other"), who(), AccessDenied), (owner_or_roles(lambda *_: "x", "admin"), who("admin"), None),
        (where(lambda _, t: t == "t"), who(), None), (where(lambda *_: False), who(), AccessDenied),
        (PERMISSIONS.has("post:read"), who("chief"), None), (PERMISSIONS.has("post:write"), who("reader"), AccessDenied),
        (PERMISSIONS.has("anything"), who("root"), None), (PERMISSIONS.has("post:read"), who("nobody"), AccessDenied),
    ],
)  # fmt: skip
def test_rules_allow_and_refuse(
    rule: Rule, principal: Principal | None, error: type[AppError] | None
) -> None:
    """401 for nobody, 403 for somebody who may not."""
    if error is None:
        assert require(principal, rule, thing="t") is principal
        return
    with pytest.raises(error) as caught:
        require(principal, rule, thing="t")
    assert caught.value.status == (401 if error is NotAuthenticated else 403)


def test_challenges_name_what_is_missing() -> None:
    """RFC 6750 section 3.1 and RFC 9470 section 3."""
    clock = ManualClock()
    login = clock.wall_us() // SECOND_US
    rule = fresh(300, clock=clock)
    require(who(auth_time=login), rule)
    clock.advance(300 * SECOND_US)
    require(who(auth_time=login), rule)
    clock.advance(SECOND_US)
    with pytest.raises(StaleLogin):
        require(who(), rule)
    with pytest.raises(StaleLogin) as stale:
        require(who(auth_time=login), rule)
    challenge = stale.value.headers["WWW-Authenticate"]
    assert 'error="insufficient_user_authentication"' in challenge
    assert 'max_age="300"' in challenge
    with pytest.raises(InsufficientScope) as scope:
        require(who(), has_scopes("a", "b"))
    assert 'scope="a b"' in scope.value.headers["WWW-Authenticate"]
    with pytest.raises(NotAuthenticated) as nobody:
        require(None)
    assert nobody.value.headers["WWW-Authenticate"] == "Bearer"
    assert (has_scopes("a") & has_scopes("b")).scopes == ("a", "b")


def test_rules_that_ask_for_nothing_are_refused() -> None:
    """An empty rule would allow everybody."""
    for make in (has_roles, has_scopes, all_of, any_of, PERMISSIONS.has):
        with pytest.raises(InvalidArgument):
            make()
    with pytest.raises(InvalidArgument, match="circle"):
        Permissions({}, includes={"a": ["b"], "b": ["a"]})


class Once:
    """A one-time purpose on the manual clock."""

    def __init__(self, purpose: str = "reset", store: MemoryStore | None = None) -> None:
        self.clock = ManualClock()
        self.store = store or MemoryStore(clock=self.clock)
        self.tokens = OneTime(
            purpose, secret=SECRET, store=self.store, issuer="https://id", clock=self.clock
        )


def test_a_one_time_token_works_once() -> None:
    """Twice in a row, sixteen at once, in both colours: one success."""
    once = Once()
    token = once.tokens.issue("user-1", bound="hash")
    assert once.tokens.peek(token).subject == "user-1"

    def take(_: int) -> str | None:
        try:
            return once.tokens.take(token, bound="hash")
        except InvalidToken:
            return None

    taken = in_threads(16, take)
    assert sorted(filter(None, taken)) == ["user-1"]
    with pytest.raises(InvalidToken):
        asyncio.run(once.tokens.aio.take(token, bound="hash"))
    other = once.tokens.issue("user-2", bound="hash")
    assert asyncio.run(once.tokens.aio.take(other, bound="hash")) == "user-2"


def test_a_one_time_token_dies_with_what_it_is_bound_to_and_with_time() -> None:
    """The password changed meanwhile; an hour passed; another purpose; a changed character."""
    once = Once()
    token = once.tokens.issue("user-1", bound="old hash")
    assert "old" not in token
    with pytest.raises(InvalidToken):
        once.tokens.take(token, bound="new hash")
    with pytest.raises(InvalidToken):
        Once("verify-email").tokens.take(token, bound="old hash")
    with pytest.raises(InvalidToken):
        once.tokens.take(token[:-1] + ("A" if token[-1] != "A" else "B"), bound="old hash")
    once.clock.advance(3600 * SECOND_US)
    with pytest.raises(TokenExpired):
        once.tokens.take(token, bound="old hash")


def test_api_keys_are_found_by_id_and_told_by_secret() -> None:
    """Only a digest at rest; every change of a character is refused, most before any look-up."""
    clock, records = ManualClock(), MemoryApiKeys()
    asked: list[str] = []
    plain = records.get

    def get(key_id: str) -> Any:
        asked.append(key_id)
        return plain(key_id)

    records.get = get  # type: ignore[method-assign]
    keys = ApiKeys(records, prefix="acme", clock=clock)
    key, record = keys.issue("user-1", scopes=["read"], name="ci")
    assert len(key) == len("acme_") + 12 + 1 + 43 + 1 + 6
    found = keys.verify(key)
    assert (found.owner, found.scopes, found.used_us) == ("user-1", ("read",), clock.wall_us())
    assert asyncio.run(keys.verify_async(key)) == found
    asked.clear()
    for place in range(len(key)):
        changed = key[:place] + ("A" if key[place] != "A" else "B") + key[place + 1 :]
        with pytest.raises(InvalidToken):
            keys.verify(changed)
    assert asked == []
    secret = key.split("_")[2]
    assert secret not in repr(record) + repr(records.__dict__)


class Slow(MemoryApiKeys):
    """Something happens between reading a record and noting its use."""

    meanwhile: Callable[[], object] = int

    def note_use(self, key_id: str, used_us: int) -> None:
        """Note it, too late."""
        self.meanwhile()
        super().note_use(key_id, used_us)


def test_noting_a_use_undoes_nothing() -> None:
    """A key that is revoked or rotated while it is used stays revoked, and ends."""
    clock, records = ManualClock(), Slow()
    keys = ApiKeys(records, prefix="acme", clock=clock)
    revoked, record = keys.issue("user-1")
    records.meanwhile = lambda: keys.revoke(record.id)
    keys.verify(revoked)
    with pytest.raises(InvalidToken):
        keys.verify(revoked)
    assert records.get(record.id) is None
    records.meanwhile = int
    rotated, record = keys.issue("user-1")
    records.meanwhile = lambda: keys.rotate(record.id, overlap=60)
    keys.verify(rotated)
    records.meanwhile = int
    clock.advance(60 * SECOND_US)
    with pytest.raises(TokenExpired):
        keys.verify(rotated)
    records.update(replace(record, id="gone"))
    assert records.get("gone") is None


def test_recovery_codes_are_strong_enough_for_a_plain_hash() -> None:
    """ASVS 5.0 6.5.2: from 112 bits on."""
    shown = SecondFactor(MemoryFactors(), issuer="Acme").enrol("user-1")
    assert all(len(code.replace("-", "")) * math.log2(31) >= 112 for code in shown.recovery_codes)


def test_a_rotated_api_key_lives_as_long_as_the_old_one_was_to() -> None:
    """A key of a month does not become one for ever, and one that is over is not revived."""
    clock = ManualClock()
    keys = ApiKeys(MemoryApiKeys(), prefix="acme", clock=clock)
    _, record = keys.issue("user-1", lifetime=100)
    clock.advance(60 * SECOND_US)
    new, made = keys.rotate(record.id, overlap=10)
    assert made.expires_us == clock.wall_us() + 100 * SECOND_US
    clock.advance(100 * SECOND_US)
    with pytest.raises(TokenExpired):
        keys.verify(new)
    for one in (record.id, made.id):
        with pytest.raises(TokenExpired):
            keys.rotate(one)
    for other in (None, b"x", 5):
        with pytest.raises(InvalidToken):
            keys.verify(other)  # type: ignore[arg-type]


def test_api_keys_end_rotate_and_are_revoked() -> None:
    """A rotation overlaps; last use is noted to the minute; a forged checksum still meets the secret."""
    clock, records = ManualClock(), MemoryApiKeys()
    keys = ApiKeys(records, prefix="acme", clock=clock)
    key, record = keys.issue("user-1", lifetime=100)
    new, _ = keys.rotate(record.id, overlap=10)
    keys.verify(key)
    keys.verify(new)
    clock.advance(10 * SECOND_US)
    with pytest.raises(TokenExpired):
        keys.verify(key)
    again = keys.verify(new)
    assert again.used_us == clock.wall_us() - 10 * SECOND_US
    assert keys.revoke(again.id)
    assert not keys.revoke(again.id)
    with pytest.raises(InvalidToken):
        keys.verify(new)
    with pytest.raises(InvalidToken):
        keys.rotate("unknown")
    for junk in ("", "acme_", "x" * 10_000_000, "\ud800"):
        with pytest.raises(InvalidToken):
            keys.verify(junk)
    with pytest.raises(InvalidArgument):
        ApiKeys(records, prefix="Acme_")


@pytest.mark.parametrize("count", range(10))
def test_hotp_is_rfc_4226s(count: int) -> None:
    """Appendix D."""
    codes = [
        "755224",
        "287082",
        "359152",
        "969429",
        "338314",
        "254676",
        "287922",
        "162583",
        "399871",
        "520489",
    ]
    assert hotp(b"12345678901234567890", count) == codes[count]


@pytest.mark.parametrize(
    ("now", "sha1", "sha256", "sha512"),
    [
        (59, "94287082", "46119246", "90693936"), (1111111109, "07081804", "68084774", "25091201"),
        (1111111111, "14050471", "67062674", "99943326"), (1234567890, "89005924", "91819424", "93441116"),
        (2000000000, "69279037", "90698825", "38618901"), (20000000000, "65353130", "77737706", "47863826"),
    ],
)  # fmt: skip
def test_totp_is_rfc_6238s(now: int, sha1: str, sha256: str, sha512: str) -> None:
    """Appendix B, with its seeds of 20, 32 and 64 bytes."""
    digits = b"1234567890" * 7
    assert totp(digits[:20], now, digits=8) == sha1
    assert totp(digits[:32], now, digits=8, digest="sha256") == sha256
    assert totp(digits[:64], now, digits=8, digest="sha512") == sha512


class Two:
    """An enrolled user on the manual clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.records = MemoryFactors()
        self.factor = SecondFactor(
            self.records, issuer="Acme & Co", clock=self.clock,
            encrypt=lambda seed: bytes(b ^ 0x55 for b in seed), decrypt=lambda kept: bytes(b ^ 0x55 for b in kept),
        )  # fmt: skip
        self.shown = self.factor.enrol("user-1", label="a@b")

    def code(self, steps: int = 0) -> str:
        """Return the code of now, or so many steps away."""
        stored = self.records.get("user-1")
        assert stored is not None
        seed = bytes(b ^ 0x55 for b in stored.seed)
        return totp(seed, self.clock.wall_us() // SECOND_US + 30 * steps)


def test_a_confirmed_factor_is_not_replaced_in_passing() -> None:
    """Until the new one is confirmed the account would have its password alone."""
    two = Two()
    two.shown = two.factor.enrol("user-1")  # the first was never confirmed
    assert two.factor.verify("user-1", two.code())
    with pytest.raises(AlreadyEnrolled):
        two.factor.enrol("user-1")
    assert two.factor.is_enrolled("user-1")
    two.factor.enrol("user-1", replace=True)
    assert not two.factor.is_enrolled("user-1")


def test_a_code_is_accepted_once() -> None:
    """The same at the same moment by sixteen threads: one success; then never, nor an older one; then the next."""
    two = Two()
    assert not two.factor.is_enrolled("user-1")
    code, older = two.code(), two.code(-1)

    def attempt(_: int) -> bool:
        try:
            return two.factor.verify("user-1", code)
        except RateLimited:
            return False

    assert sum(in_threads(16, attempt)) == 1
    two.clock.advance(300 * SECOND_US)  # sixteen attempts are a storm: its pause
    assert two.factor.is_enrolled("user-1")
    assert not two.factor.verify("user-1", code)
    assert not two.factor.verify("user-1", older)
    assert asyncio.run(two.factor.verify_async("user-1", two.code()))


def test_the_window_is_one_step_each_way() -> None:
    """A minute ago and in a minute are wrong."""
    for steps, right in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        two = Two()
        assert two.factor.verify("user-1", two.code(steps)) is right


def test_attempts_are_counted_before_they_are_compared() -> None:
    """Five wrong ones, then a pause in which the right one is not looked at either."""
    two = Two()
    for _ in range(5):
        assert not two.factor.verify("user-1", "000000" if two.code() != "000000" else "000001")
    with pytest.raises(RateLimited) as caught:
        two.factor.verify("user-1", two.code())
    assert caught.value.retry_after == 300
    two.clock.advance(300 * SECOND_US)
    assert two.factor.verify("user-1", two.code())
    for _ in range(4):
        two.factor.verify("user-1", "abc")
    two.clock.advance(30 * SECOND_US)
    assert two.factor.verify("user-1", two.code())


def test_recovery_codes_work_once_each_and_only_once_confirmed() -> None:
    """However they are typed."""
    two = Two()
    code = two.shown.recovery_codes[0]
    assert not two.factor.recover("user-1", code)
    two.factor.verify("user-1", two.code())
    assert two.factor.recover("user-1", code.upper().replace("-", " "))
    assert not two.factor.recover("user-1", code)
    assert asyncio.run(two.factor.recover_async("user-1", two.shown.recovery_codes[1]))
    assert not two.factor.recover("nobody", code)
    assert not two.factor.verify("nobody", "000000")
    assert two.factor.remove("user-1")


def test_seeds_and_codes_do_not_show() -> None:
    """Stored through the hook, hidden in every repr."""
    two = Two()
    assert two.shown.uri.startswith("otpauth://totp/Acme%20%26%20Co%3Aa%40b?secret=")
    secret = two.shown.uri.split("secret=")[1].split("&")[0]
    shown = repr(two.shown) + repr(two.records.get("user-1"))
    assert secret not in shown
    assert two.shown.recovery_codes[0] not in shown
    stored = two.records.get("user-1")
    assert isinstance(stored, Factor)
    assert repr(stored.seed) not in shown


@given(st.text(max_size=12))
def test_no_text_is_a_code_by_accident(code: str) -> None:
    """Any text is answered by False, or by True only if it is the code."""
    two = Two()
    assert two.factor.verify("user-1", code) is (
        code.replace(" ", "") in {two.code(-1), two.code(), two.code(1)}
    )
