"""Addresses that are broken below HTTP: certificates that nobody may trust, a port that takes no connection."""

from __future__ import annotations

import datetime
import socket
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NO_SUCH_NAME = "https://no-such-provider.invalid"  # RFC 6761, 6.4: it never exists


class BlackHole(socket.socket):
    """A listening socket whose queue is full: the kernel drops every further SYN, so a connect hears nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen(0)
        self._waiting = [socket.socket() for _ in range(4)]
        for one in self._waiting:
            one.settimeout(0)
            one.connect_ex(self.getsockname())

    def close(self) -> None:
        for one in self._waiting:
            one.close()
        super().close()


def black_hole() -> socket.socket:
    """Returns a socket that takes no connection, until it is closed."""
    return BlackHole()


def certificate_context(*, expired: bool) -> ssl.SSLContext:
    """Returns a server's TLS with a certificate for 127.0.0.1 that nobody signed, and that may be past its time."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wall")])
    now = datetime.datetime.now(datetime.UTC)
    begin, end = (now - datetime.timedelta(days=30), now + datetime.timedelta(days=-1 if expired else 30))
    localhost = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
    certificate = built.add_extension(localhost, critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "pem"
        pem.touch(0o600)
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
        context.load_cert_chain(pem)
    return context
