"""One server alone: plain, behind a Unix socket, or secured by ACL users and TLS."""

import secrets
from urllib.parse import quote

from tests.ground.certificates import Certificates
from tests.ground.ports import HOST
from tests.ground.resp import Login
from tests.ground.servers import Server
from tests.ground.topology import Topology

_RIGHTS = {
    "default": "~* &* +@all",
    "app": "~* &* +@all",
    "reader": "~* +@read +@connection",
}


class Single(Topology):
    """One server on a TCP port. `config` are lines of redis.conf."""

    def __init__(self, *config: str) -> None:
        super().__init__()
        self.server = self._add(self._make(config))

    @property
    def url(self) -> str:
        """`redis://host:port/0`."""
        return f"redis://{HOST}:{self.server.port}/0"

    def _make(self, config: tuple[str, ...]) -> Server:
        return Server(*config)

    def _form(self) -> None:
        self.server.start()


class UnixSocket(Single):
    """One server that listens on a Unix socket only."""

    @property
    def url(self) -> str:
        """`unix:///path/of/the/socket`."""
        return f"unix://{self.server.address}"

    def _make(self, config: tuple[str, ...]) -> Server:
        return Server(*config, listen="unix")


class SecureSingle(Single):
    """One server with ACL users and, unless `tls` is off, on a TLS port.

    Users, each with a random password in `passwords`: "default" and "app" may do everything,
    "reader" only reads. With `mutual`, clients must show a certificate; `certificates` has one.
    """

    def __init__(self, *config: str, tls: bool = True, mutual: bool = False) -> None:
        # Characters that mean something in a URL, because real passwords have them.
        self.passwords = {name: f"{secrets.token_hex(8)}@:/#%" for name in _RIGHTS}
        self.tls = tls
        self.mutual = mutual
        super().__init__(*config)
        self.certificates = Certificates(self.server.directory / "certificates")

    @property
    def url(self) -> str:
        """`rediss://app:password@host:port/0`."""
        return self.url_for("app")

    def url_for(self, username: str) -> str:
        """Return the URL with the credentials of one user, escaped."""
        scheme = "rediss" if self.tls else "redis"
        password = quote(self.passwords[username], safe="")
        return f"{scheme}://{username}:{password}@{HOST}:{self.server.port}/0"

    def login_for(self, username: str) -> Login:
        """Return what `Wire` needs to connect as one user."""
        context = self.certificates.client_context() if self.tls else None
        return Login(username=username, password=self.passwords[username], tls=context)

    def _make(self, config: tuple[str, ...]) -> Server:
        users = [f'user {name} on ">{self.passwords[name]}" {_RIGHTS[name]}' for name in _RIGHTS]
        return Server(*users, *config, listen="tls" if self.tls else "tcp")

    def _form(self) -> None:
        if self.tls:
            self.certificates.make()
            self.server.configure(*self.certificates.redis_conf(mutual=self.mutual))
        self.server.login = self.login_for("app")
        self.server.start()
