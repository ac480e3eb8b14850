"""Passwords and tokens: beside PyJWT, beside the bare mathematics, beside argon2 itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import resource
import time
from collections.abc import Callable
from functools import partial
from statistics import median, quantiles
from typing import Any

import argon2
import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from backendkit.passwords import SERVER, PasswordHasher
from backendkit.tokens import InvalidToken, KeyRing, Tokens, Verifier, jws
from backendkit.tokens.encoding import decode
from backendkit.tokens.secrets import SecretRing
from tests.benchmarks import guards
from tests.benchmarks.report import Row, write

ISSUER, AUDIENCE = "https://id.example", "api"
LOGINS = 64

TEXT = """
Thread CPU time, ours and the rival in turn, medians of the ratios. The floor for HS256 is what the standard library alone
takes for JSON, base64 and HMAC, without checking a single claim. Lower is better.
"""


def page() -> str:
    """Measure everything and write the page."""
    rows = [
        *_symmetric(), *_asymmetric(), *_cached(), _junk(), *guards.rows(), _hashing(), *_flood(),
    ]  # fmt: skip
    return write(
        "auth", "Passwords and tokens", TEXT, rows, ["PyJWT", "cryptography", "argon2-cffi"]
    )


def _ratio(
    ours: Callable[[], Any], theirs: Callable[[], Any], calls: int, rounds: int = 15
) -> tuple[float, float, float]:
    """Return microseconds of both and the median ratio, in thread CPU time, interleaved."""

    def cost(work: Callable[[], Any]) -> float:
        begun = time.thread_time_ns()
        for _ in range(calls):
            work()
        return (time.thread_time_ns() - begun) / calls / 1000

    for work in (ours, theirs):
        cost(work)
    pairs = [(cost(ours), cost(theirs)) for _ in range(rounds)]
    ratio = median(mine / other for mine, other in pairs)
    return median(p[0] for p in pairs), median(p[1] for p in pairs), ratio


def _row(what: str, rival: str, found: tuple[float, float, float], target: float) -> Row:
    ours, theirs, ratio = found
    return Row(what, f"{ours:.1f} us", rival, f"{theirs:.1f} us", ratio, target)


def _claims() -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER, "sub": "user-1", "aud": AUDIENCE, "exp": now + 9000, "iat": now, "jti": "0123456789abcdef",
        "sid": "0123456789abcdef01234567", "roles": ["editor", "author"], "scope": "read write", "ep": 0,
    }  # fmt: skip


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unb64(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def _symmetric() -> list[Row]:
    ring = KeyRing.generate("HS256")
    key, secret = ring.keys[0], decode(ring.keys[0].jwk(private=True)["k"].encode())
    claims = _claims()
    tokens = Tokens(keys=ring, secret=SecretRing.generate(), issuer=ISSUER, audience=AUDIENCE)
    token = jws.sign(json.dumps(claims).encode(), key, typ="at+jwt")

    def floor_issue() -> bytes:
        header = _b64(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": key.kid}).encode())
        signed = header + b"." + _b64(json.dumps(claims).encode())
        return signed + b"." + _b64(hmac.new(secret, signed, hashlib.sha256).digest())

    def floor_verify() -> Any:
        header, payload, signature = token.encode().split(b".")
        json.loads(_unb64(header))
        mac = hmac.new(secret, header + b"." + payload, hashlib.sha256).digest()
        assert hmac.compare_digest(mac, _unb64(signature))
        return json.loads(_unb64(payload))

    def issue() -> str:
        return tokens.mint(
            "user-1", roles=["editor", "author"], scopes=["read", "write"], claims={"x": "0" * 24}
        )

    def theirs() -> Any:
        return jwt.decode(token, secret, ["HS256"], audience=AUDIENCE, issuer=ISSUER)

    return [
        _row("HS256 issue", "floor", _ratio(issue, floor_issue, 1000), 1.0),
        _row(
            "HS256 verify, all claims",
            "floor",
            _ratio(lambda: tokens.verify(token), floor_verify, 1000),
            1.2,
        ),
        _row(
            "HS256 verify, all claims",
            "PyJWT",
            _ratio(lambda: tokens.verify(token), theirs, 300),
            0.25,
        ),
    ]


def _asymmetric() -> list[Row]:
    rows: list[Row] = []
    for alg, target in (("ES256", 1.5), ("EdDSA", 1.5), ("RS256", 1.8)):
        ring = KeyRing.generate(alg)
        token = jws.sign(json.dumps(_claims()).encode(), ring.keys[0], typ="at+jwt")
        verifier = Verifier(ring, issuer=ISSUER, audience=AUDIENCE, typ="at+jwt", remember=0)
        bare = _bare(ring, token)
        found = _ratio(partial(verifier.verify, token), bare, 100)
        rows.append(_row(f"{alg} verify, all claims", "bare signature check", found, target))
    return rows


def _bare(ring: KeyRing, token: str) -> Callable[[], None]:
    public: Any = jwt.PyJWK(ring.keys[0].jwk()).key
    signed, _, text = token.rpartition(".")
    message, signature = signed.encode(), _unb64(text.encode())
    alg = ring.keys[0].alg
    if alg == "EdDSA":
        return lambda: public.verify(signature, message)
    if alg == "RS256":
        return lambda: public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    der = jwt.utils.raw_to_der_signature(signature, ec.SECP256R1())
    return lambda: public.verify(der, message, ec.ECDSA(hashes.SHA256()))


def _cached() -> list[Row]:
    rows: list[Row] = []
    for alg, target in (("ES256", 0.06), ("EdDSA", 0.06), ("RS256", 0.12)):
        ring = KeyRing.generate(alg)
        token = jws.sign(json.dumps(_claims()).encode(), ring.keys[0], typ="at+jwt")
        options: dict[str, Any] = {"issuer": ISSUER, "audience": AUDIENCE, "typ": "at+jwt"}
        with_memory, without = Verifier(ring, **options), Verifier(ring, remember=0, **options)
        found = _ratio(partial(with_memory.verify, token), partial(without.verify, token), 100)
        rows.append(_row(f"{alg} verify, remembered", "not remembered", found, target))
    return rows


def _junk() -> Row:
    verifier = Verifier(KeyRing.generate("ES256"), issuer=ISSUER, audience=AUDIENCE)
    junk = "a." * (1 << 19)

    def refuse() -> None:
        try:
            verifier.verify(junk)
        except InvalidToken:
            return

    ours, _, _ = _ratio(refuse, lambda: None, 1000)
    return Row("refusing 1 MiB of junk", f"{ours:.1f} us", "bound", "20 us", ours / 20, 1.0)


def _hashing() -> Row:
    ours = PasswordHasher(SERVER, failure_time=0.001)
    theirs = argon2.PasswordHasher(SERVER.iterations, SERVER.memory_kib, SERVER.parallelism)
    stored, password = ours.hash("correct horse battery staple"), "correct horse battery staple"
    mine, other, ratio = _ratio(
        lambda: ours.verify(stored, password), lambda: theirs.verify(stored, password), 1, rounds=15
    )
    return Row(
        "verifying a password (SERVER)",
        f"{mine / 1000:.0f} ms",
        "argon2-cffi",
        f"{other / 1000:.0f} ms",
        ratio,
        1.01,
    )


def _flood() -> list[Row]:
    hasher = PasswordHasher(SERVER, failure_time=0.001, max_pending=LOGINS, queue_timeout=120)
    stored, password = hasher.hash("correct horse battery staple"), "correct horse battery staple"
    naive = _lags(lambda: asyncio.sleep(0, hasher.verify(stored, password)), 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lags = _lags(lambda: hasher.aio.verify(stored, password), LOGINS)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    p99 = quantiles(lags, n=100)[98]
    worst = max(naive) * LOGINS / 8
    bound = hasher.executor.workers * SERVER.memory_kib / 1024 + 16
    hasher.close()
    return [
        Row(
            f"{LOGINS} logins at once, loop lag p99",
            f"{p99:.1f} ms",
            "bound",
            "20 ms",
            p99 / 20,
            1.0,
        ),
        Row(
            f"{LOGINS} logins at once, loop lag p99",
            f"{p99:.1f} ms",
            "on the loop",
            f"{worst:.0f} ms",
            p99 / worst,
            0.02,
        ),
        Row(
            f"{LOGINS} logins at once, memory",
            f"{grown:.0f} MiB",
            "bound",
            f"{bound:.0f} MiB",
            grown / bound,
            1.0,
        ),
    ]


def _lags(login: Callable[[], Any], count: int) -> list[float]:
    """Return by how many milliseconds the loop was late, each time it should have come round."""

    async def flood() -> list[float]:
        lags: list[float] = []
        over = asyncio.Event()

        async def tick() -> None:
            while not over.is_set():
                begun = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append((time.perf_counter() - begun) * 1000 - 5)

        async def one() -> Any:
            return await login()

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0)
        await asyncio.gather(*(one() for _ in range(count)))
        over.set()
        await ticker
        return lags

    return asyncio.run(flood())
