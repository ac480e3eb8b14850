"""A certificate authority for one test session, with a server's and a client's certificate.

Made by the openssl program from a configuration of our own, because that of the system differs
between distributions. The extensions are those that `ssl.VERIFY_X509_STRICT` (the default from
Python 3.13 on) asks for.
"""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.ground.ports import HOST

_DAYS = "2"
_CONFIG = f"""\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = IP:{HOST},DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files in one directory; `make` writes them."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.crt"

    def certificate(self, name: str) -> Path:
        """The certificate of "server" or "client"."""
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        """The private key of "server" or "client"."""
        return self.directory / f"{name}.key"

    def client_context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        """Return a client's context that trusts the authority and can show a certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if with_certificate:
            context.load_cert_chain(self.certificate("client"), self.key("client"))
        return context

    def redis_conf(self, *, mutual: bool) -> list[str]:
        """Return the TLS lines of redis.conf; with `mutual`, clients must show a certificate."""
        return [
            f"tls-cert-file {self.certificate('server')}",
            f"tls-key-file {self.key('server')}",
            f"tls-ca-cert-file {self.ca}",
            f"tls-auth-clients {'yes' if mutual else 'no'}",
        ]

    def make(self) -> None:
        """Write the files (some 50 ms: elliptic curve keys)."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "openssl.cnf").write_text(_CONFIG)
        self._request("ca", "-x509", "-days", _DAYS, "-extensions", "ca", "-out", "ca.crt")
        for name in ("server", "client"):
            self._request(name, "-out", f"{name}.csr")
            self._sign(name)

    def _request(self, name: str, *options: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        subject = ("-keyout", f"{name}.key", "-subj", f"/CN=backendkit test {name}")
        self._openssl("req", "-config", "openssl.cnf", *curve, *subject, *options)

    def _sign(self, name: str) -> None:
        files = ("-in", f"{name}.csr", "-out", f"{name}.crt")
        authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", _DAYS)
        extensions = ("-extfile", "openssl.cnf", "-extensions", name)
        self._openssl("x509", "-req", *files, *authority, *extensions)

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            raise RuntimeError(
                "openssl is not on the PATH; the TLS tests make their certificates with it.\n"
                "To fix it: apt-get install openssl"
            )
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,  # what it wrote says more than its exit code
        )
        if done.returncode != 0:
            raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr}")
