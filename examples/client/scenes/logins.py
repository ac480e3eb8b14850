"""Logins: sessions that survive two tabs and not a thief, passwords, second factors, keys."""

import re
from base64 import b32decode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from backendkit.tokens.totp import totp
from examples.accounts.storage.adopt import adopt
from examples.accounts.storage.database import SqlStorage
from examples.client.front import Front, Request
from examples.client.match import ANY, mismatches
from examples.client.scene import Exchange, Expect, Played, Section
from examples.client.scenes.refusals import refused

MARY = {"email": "mary@example.org", "name": "Mary Somerville"}
FIRST, SECOND, THIRD = (
    "celestial mechanics 1831",
    "physical geography 1848",
    "molecular science 1869",
)
BERTHA = {
    "email": "bertha@example.org",
    "name": "Bertha Swirles",
    "hashed": "$2b$04$Lc8PFeG9ltZ41Tnmyky.iemJFHOE9DILeog7U1D.zL/2HOB2G6MO6",
    "roles": "admin",
}
"""Adopted from an older system, which hashed by bcrypt."""

BERTHAS = "correct horse battery"
JSON_PAIR = {"access_token": ANY, "refresh_token": ANY, "token_type": "Bearer", "expires_in": 900}
NO_STORE = {"cache-control": "no-store"}


def bearer(name: str) -> dict[str, str]:
    """Return the header of an access token that an earlier scene kept."""
    return {"Authorization": f"Bearer {{{name}}}"}


def _logs_in(
    what: str, password: str, keep: str, who: str = MARY["email"], **more: str
) -> Exchange:
    sent = {"username": who, "password": password, **more}
    return Exchange(
        what=what,
        send=Request(method="POST", path="/auth/login", json=sent),
        expect=Expect(status=200, body=JSON_PAIR, headers=NO_STORE),
        keep={keep: "access_token", f"{keep}_refresh": "refresh_token"},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTabs:
    """The same refresh token from two tabs at once: both get the same successor."""

    what: str
    send: Request

    def play(self, front: Front) -> Played:
        """Send it twice at once, and keep what came."""
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(front.send, [self.send] * 2))
        faults = list(mismatches([200, 200], [a.status for a in answers], "statuses"))
        pairs = [a.data for a in answers if isinstance(a.data, dict)]
        successors = {str(pair.get("refresh_token")) for pair in pairs}
        faults += mismatches(1, len(successors), "different refresh tokens")
        if pairs:
            front.kept.update(mary=str(pairs[0]["access_token"]), mary_next=successors.pop())
        return Played(answers, faults, ["one successor for both tabs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A row with another system's hash: logged in with, it has ours afterwards."""

    what: str
    send: Request
    expect: Expect

    def play(self, front: Front) -> Played:
        """Add the row, log in, and look at the row."""
        adopt(front.kept["database"], [BERTHA])
        before = _stored(front)
        answer = front.send(self.send)
        after = _stored(front)
        faults = [*self.expect.faults(answer)]
        faults += mismatches(re.compile(r"\$2b\$.*"), before, "the hash before")
        faults += mismatches(re.compile(r"\$argon2id\$.*"), after, "the hash after")
        if isinstance(answer.data, dict):
            front.kept["bertha"] = str(answer.data.get("access_token"))
        return Played([answer], faults, [f"{before[:7]}... is now {after[:9]}..."])


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A request with something that the client works out from what it was given.

    Attributes:
        make: what is kept for the request, from what was kept before.
    """

    what: str
    make: Callable[[Mapping[str, str]], dict[str, str]]
    send: Request
    expect: Expect
    keep: Mapping[str, str] = field(default_factory=dict)

    def play(self, front: Front) -> Played:
        """Work it out, and send."""
        front.kept.update(self.make(front.kept))
        return Exchange(what=self.what, send=self.send, expect=self.expect, keep=self.keep).play(
            front
        )


def _stored(front: Front) -> str:
    storage = SqlStorage(front.kept["database"])
    with storage.unit() as unit:
        found = unit.credentials.of(BERTHA["email"])
    storage.close()
    return found.hashed if found else ""


def _code(steps: int) -> Callable[[Mapping[str, str]], dict[str, str]]:
    """Return what an app does that was given the seed: the code of now, or of the step after it, which counts too."""

    def make(kept: Mapping[str, str]) -> dict[str, str]:
        secret = kept["uri"].partition("secret=")[2].partition("&")[0]
        seed = b32decode(secret + "=" * (-len(secret) % 8))
        return {"code": totp(seed, int(time()) + 30 * steps)}

    return make


def _mailed(kept: Mapping[str, str]) -> dict[str, str]:
    """Return the token of the link that was mailed."""
    (mail,) = Path(kept["mails"]).glob("*.txt")
    return {"reset": mail.read_text().split()[-1]}


def _reset(what: str, expect: Expect) -> Computed:
    sent = {"token": "{reset}", "new": THIRD}
    request = Request(method="POST", path="/password-reset/confirm", json=sent)
    return Computed(what=what, make=_mailed, send=request, expect=expect)


def _get(what: str, path: str, who: str, expect: Expect) -> Exchange:
    return Exchange(
        what=what, send=Request(method="GET", path=path, headers=bearer(who)), expect=expect
    )


def _post(
    what: str, path: str, sent: object, expect: Expect, who: str = "", **keep: str
) -> Exchange:
    headers = bearer(who) if who else {}
    request = Request(method="POST", path=path, json=sent, headers=headers)
    return Exchange(what=what, send=request, expect=expect, keep=keep)


DONE = Expect(status=204, empty=True, headers=NO_STORE)

SESSIONS = (
    _post("a password that is too short is refused, and says why", "/signup", MARY | {"password": "math"},
          refused(422, "PASSWORD_REFUSED", {"code": ANY})),
    _post("Mary signs up", "/signup", MARY | {"password": FIRST}, Expect(status=201, body={"email": MARY["email"]}),
          mary_id="id"),
    _post("a wrong password", "/auth/login", {"username": MARY["email"], "password": SECOND},
          refused(401, "LOGIN_REFUSED", **{"www-authenticate": "Bearer"})),
    _post("a user who is not there: the same answer", "/auth/login", {"username": "x@example.org", "password": SECOND},
          refused(401, "LOGIN_REFUSED", **{"www-authenticate": "Bearer"})),
    _logs_in("Mary logs in", FIRST, "mary", device="laptop"),
    _get("who is she?", "/me", "mary", Expect(status=200, body={"name": MARY["name"]}, headers=NO_STORE)),
    TwoTabs(what="two tabs refresh at once: one rotation, the same successor",
            send=Request(method="POST", path="/auth/refresh", json={"refresh_token": "{mary_refresh}"})),
    _get("it is one session, refreshed once", "/auth/sessions", "mary",
         Expect(status=200, body={"sessions": [{"device": "laptop", "current": True, "refreshes": 1}]})),
    _post("refreshed again", "/auth/refresh", {"refresh_token": "{mary_next}"}, Expect(status=200, body=JSON_PAIR),
          mary_last="refresh_token"),
    _post("the very first refresh token comes again: somebody has stolen it", "/auth/refresh",
          {"refresh_token": "{mary_refresh}"}, refused(401, "TOKEN_REUSED")),
    _post("and the whole family is dead, the newest token too", "/auth/refresh", {"refresh_token": "{mary_last}"},
          refused(401, "SESSION_ENDED")),
    _logs_in("Mary logs in again", FIRST, "mary"),
    _post("and out", "/auth/logout", {"refresh_token": "{mary_refresh}"}, DONE),
    _post("her refresh token is no good any more", "/auth/refresh", {"refresh_token": "{mary_refresh}"},
          refused(401, "SESSION_ENDED")),
)  # fmt: skip

PASSWORDS = (
    _logs_in("Mary logs in on her laptop", FIRST, "laptop"),
    _logs_in("and on her phone", FIRST, "phone"),
    _post("she changes her password", "/me/password", {"current": FIRST, "new": SECOND}, DONE, "laptop"),
    _get("which ended every session", "/me", "phone", refused(401, "TOKEN_REVOKED")),
    _post("she forgets it; whether there is such an account, nobody learns", "/password-reset",
          {"email": MARY["email"]}, Expect(status=202, headers=NO_STORE)),
    _reset("the link in the mail sets another one", DONE),
    _reset("once", refused(401, "INVALID_TOKEN")),
    Adopted(
        what="Bertha's row is of an older system: her login upgrades it from bcrypt to argon2id",
        send=Request(method="POST", path="/auth/login", json={"username": BERTHA["email"], "password": BERTHAS}),
        expect=Expect(status=200, body=JSON_PAIR),
    ),
)  # fmt: skip

RIGHTS = (
    _logs_in("Mary logs in with the new one", THIRD, "mary"),
    _get("administrators alone list all accounts: not Mary", "/admin/users", "mary", refused(403, "ACCESS_DENIED")),
    _get("but Bertha", "/admin/users?limit=1", "bertha", Expect(status=200)),
    _get("an account is shown to its owner", "/users/{mary_id}/account", "mary", Expect(status=200, body={"roles": []})),
    _get("and to an administrator", "/users/{mary_id}/account", "bertha", Expect(status=200)),
    _get("and to nobody else", "/users/4711/account", "mary", refused(403, "ACCESS_DENIED")),
    _post("Mary makes a key for a machine", "/me/keys", {"name": "cron"}, Expect(status=201), "mary", key="key"),
    Exchange(what="which works for her",
             send=Request(method="GET", path="/machine", headers={"X-API-Key": "{key}"}),
             expect=Expect(status=200, body={"owner": ANY})),
    Exchange(what="a typing error is told without a look into the database",
             send=Request(method="GET", path="/machine", headers={"X-API-Key": "{key}x"}),
             expect=refused(401, "INVALID_TOKEN")),
    _post("Mary takes a second factor", "/me/factor", {}, Expect(status=201, headers=NO_STORE), "mary", uri="uri"),
    Computed(what="confirms it by a code", make=_code(0), expect=DONE,
             send=Request(method="POST", path="/me/factor/confirm", json={"code": "{code}"}, headers=bearer("mary"))),
    _post("and logs in: the password is not enough any more", "/auth/login",
          {"username": MARY["email"], "password": THIRD}, refused(401, "SECOND_FACTOR_REQUIRED")),
    Computed(what="with the next code", make=_code(1), expect=Expect(status=200, body=JSON_PAIR),
             send=Request(method="POST", path="/auth/login",
                          json={"username": MARY["email"], "password": THIRD, "code": "{code}"})),
    Computed(what="which counts once", make=dict, expect=refused(401, "LOGIN_REFUSED"),
             send=Request(method="POST", path="/auth/login",
                          json={"username": MARY["email"], "password": THIRD, "code": "{code}"})),
    _post("Mary logs out everywhere", "/auth/logout/all", {}, DONE, "mary"),
    Exchange(what="the public keys, for other services",
             send=Request(method="GET", path="/.well-known/jwks.json"),
             expect=Expect(status=200, headers={"cache-control": "public, max-age=3600", "etag": ANY})),
)  # fmt: skip

SECTION = Section("Logins", (*SESSIONS, *PASSWORDS, *RIGHTS))
