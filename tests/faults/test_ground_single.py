"""One server behind TLS, ACL users, a Unix socket."""

import ssl
from urllib.parse import unquote, urlsplit

import pytest

from tests.ground.resp import Login, ReplyError, Wire
from tests.ground.single import SecureSingle, Single, UnixSocket


def test_shared_server(redis_single: Single, namespace: str) -> None:
    """It is there, and the namespace keeps tests apart."""
    assert redis_single.url == f"redis://127.0.0.1:{redis_single.server.port}/0"
    assert redis_single.server.command("SET", namespace + "key", 1) == b"OK"
    assert redis_single.server.command("KEYS", namespace + "*") == [f"{namespace}key".encode()]


def test_users_may_do_what_their_rights_say(redis_tls: SecureSingle, namespace: str) -> None:
    """The reader cannot write; a wrong password gets nobody in."""
    server = redis_tls.server
    assert server.command("ACL", "WHOAMI") == b"app"
    assert server.command("SET", namespace, 1) == b"OK"
    with Wire(server.address, login=redis_tls.login_for("reader")) as wire:
        assert wire.command("GET", namespace) == b"1"
        with pytest.raises(ReplyError, match="NOPERM"):
            wire.command("SET", namespace, 2)
    wrong = Login(username="app", password="wrong", tls=redis_tls.login_for("app").tls)
    with pytest.raises(ReplyError, match="WRONGPASS"):
        Wire(server.address, login=wrong)
    assert "wrong" not in repr(wrong)


def test_the_url_carries_the_password_escaped(redis_tls: SecureSingle) -> None:
    """It has every character that means something in a URL."""
    parts = urlsplit(redis_tls.url_for("reader"))
    assert (parts.scheme, parts.username, parts.port) == ("rediss", "reader", redis_tls.server.port)
    assert unquote(parts.password or "") == redis_tls.passwords["reader"]
    assert "%40%3A%2F%23%25" in redis_tls.url


def test_without_a_login_nobody_gets_in() -> None:
    """ACL users work without TLS, too."""
    with SecureSingle(tls=False) as single:
        assert single.url.startswith("redis://app:")
        assert single.server.command("ACL", "WHOAMI") == b"app"
        with Wire(single.server.address) as wire, pytest.raises(ReplyError, match="NOAUTH"):
            wire.command("GET", "key")


def test_a_strict_client_trusts_our_authority_only(redis_tls: SecureSingle) -> None:
    """The certificates stand the strict checks of Python 3.13; a stranger is not trusted."""
    strict = redis_tls.certificates.client_context()
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    login = Login(password=redis_tls.passwords["default"], tls=strict)
    with Wire(redis_tls.server.address, login=login) as wire:
        assert wire.command("PING") == b"PONG"
    stranger = Login(tls=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        Wire(redis_tls.server.address, login=stranger)


def test_mutual_tls_wants_a_certificate() -> None:
    """Who has none is turned away."""
    with SecureSingle(mutual=True) as single:
        assert single.server.command("PING") == b"PONG"
        bare = single.certificates.client_context(with_certificate=False)
        login = Login(password=single.passwords["default"], tls=bare)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Wire(single.server.address, login=login)


def test_a_unix_socket_serves() -> None:
    """And no TCP port does; it can be restarted like any other."""
    with UnixSocket() as single:
        assert single.url == f"unix://{single.server.address}"
        assert single.server.command("CONFIG", "GET", "port") == [b"port", b"0"]
        assert single.server.restart().command("PING") == b"PONG"
