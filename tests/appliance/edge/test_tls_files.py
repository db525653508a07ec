"""A certificate of the operator's own: what is wrong with its files is told, and what is right is shown at once."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from appliance.edge.tls import Certificate, make_ca, make_leaf
from appliance.edge.tls_files import Given, TlsFiles, certificate_of, days_left, names_of, read, stamp
from appliance.edge.tls_shown import Shown
from appliance.host.certificates import SURE_LOOKS, Follower, Own
from bundler.format.errors import BadInput, BadInputs

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
CA = make_ca("theirs", NOW)
PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def leaf(*names: str, at: datetime.datetime = NOW) -> Certificate:
    return make_leaf(CA, names or ("box.example",), at)


def self_signed(key: Key, *, named: bool = True) -> Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box.example")])
    built = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW - DAY, NOW + 9 * DAY)
    if named:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("box.example")]), critical=False)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(built.sign(key, hashes.SHA256()).public_bytes(PEM), private)


def encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word"))


def write(folder: Path, certificate: Certificate) -> TlsFiles:
    files = TlsFiles(folder / "chain.pem", folder / "key.pem")
    for path, data in ((files.cert, certificate.cert_pem), (files.key, certificate.key_pem)):
        path.with_suffix(".part").write_bytes(data)
        path.with_suffix(".part").chmod(0o600)
        path.with_suffix(".part").replace(path)  # as whoever renews does it
    return files


LEAF = leaf("box.example", "*.shops.example", "10.1.2.3")


@pytest.mark.parametrize("names", [(), ("Box.example",), ("north.shops.example", "10.1.2.3")])
def test_a_chain_and_its_key_are_a_certificate(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Also by links, as certbot makes them; its names are the box's, but for wildcards."""
    files = write(tmp_path, Certificate(LEAF.cert_pem + CA.cert_pem, LEAF.key_pem))
    links = TlsFiles(tmp_path / "c", tmp_path / "k")
    links.cert.symlink_to(files.cert)
    links.key.symlink_to(files.key)
    found = read(links, names, NOW)
    assert found.cert_pem == LEAF.cert_pem + CA.cert_pem
    assert names_of(found.cert_pem) == ("box.example",)
    assert days_left(found.cert_pem, NOW) == 395  # 397, made a day ago, and a part of one
    assert Given.heard(Given(links, found, names).told()) == Given(links, found, names)
    assert "PRIVATE" not in repr(Given(links, found, names))


@pytest.mark.parametrize(
    ("chain", "key", "names", "words"),
    [
        (LEAF.cert_pem, leaf().key_pem, (), "not that of the first certificate"),
        (CA.cert_pem + LEAF.cert_pem, LEAF.key_pem, (), "not that of the first certificate"),
        (leaf(at=NOW - 400 * DAY).cert_pem, b"", (), "the certificate ended on"),
        (leaf(at=NOW + 3 * DAY).cert_pem, b"", (), "the certificate begins on"),
        (LEAF.cert_pem, LEAF.key_pem, ("other.example",), "is not for other.example; it is for *.shops.example"),
        (LEAF.cert_pem, LEAF.key_pem, ("a.b.shops.example",), "is not for a.b.shops.example"),
        (CA.cert_pem, CA.key_pem, (), "no subject alternative name"),
        (b"", LEAF.key_pem, (), "no certificates in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", LEAF.key_pem, (), "no certificates in PEM"),
        (LEAF.cert_pem, b"sk-1", (), "no private key in PEM"),
        (LEAF.cert_pem, encrypted(LEAF.key_pem), (), "the key is encrypted"),
    ],
)
def test_what_cannot_be_served_is_told(chain: bytes, key: bytes, names: tuple[str, ...], words: str) -> None:
    """Each with its reason, and nothing of the key."""
    with pytest.raises(BadInputs) as refused:
        certificate_of(chain, key, names, NOW)
    assert words in refused.value.fact
    assert "sk-1" not in str(refused.value)


def test_everything_that_is_wrong_is_listed() -> None:
    """Time, name and key at once."""
    with pytest.raises(BadInputs) as refused:
        certificate_of(leaf(at=NOW - 400 * DAY).cert_pem, leaf().key_pem, ("other.example",), NOW)
    assert len(refused.value.issues) == 3


def test_what_openssl_does_not_serve_is_told() -> None:
    """A key that is too short for this machine's OpenSSL."""
    weak = self_signed(rsa.generate_private_key(65537, 1024))
    with pytest.raises(BadInputs, match="it cannot be served"):
        certificate_of(weak.cert_pem, weak.key_pem, (), NOW)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o666, 0o601])
def test_a_key_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Its group may read it, nobody else may do anything."""
    files = write(tmp_path, LEAF)
    files.key.chmod(mode)
    with pytest.raises(BadInput, match=f"open to others .mode 0{mode:o}.") as refused:
        read(files, (), NOW)
    assert refused.value.hint.startswith("chmod 600")
    files.key.chmod(0o640)
    assert read(files, (), NOW) == LEAF


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """None there, a folder, or far too long."""
    files = write(tmp_path, LEAF)
    for cert in (tmp_path / "nothing", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            read(TlsFiles(cert, files.key), (), NOW)
    files.cert.write_bytes(b"x" * 200_001)
    with pytest.raises(BadInput, match="is longer than"):
        read(files, (), NOW)


class Listening:
    """A TLS server of the real kind, one handshake after the other."""

    def __init__(self, shown: Shown) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._shown = shown
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return  # the test is over
            with client, self._shown.listening.wrap_socket(client, server_side=True) as line:
                line.recv(1)

    def shows(self, name: str | None = None) -> bytes:
        """Returns the certificate of a new connection, DER."""
        context = ssl._create_unverified_context()
        with (
            socket.create_connection(self._socket.getsockname(), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=name) as line,
        ):
            line.sendall(b".")
            return line.getpeercert(binary_form=True) or b""

    def close(self) -> None:
        self._socket.close()


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_pem.decode())


def test_a_new_certificate_is_shown_whatever_its_key() -> None:
    """One of RSA after one of a curve: the old one is shown to nobody any more, with and without a server's name."""
    first, second = leaf(), self_signed(rsa.generate_private_key(65537, 2048))
    shown = Shown(first)
    listening = Listening(shown)
    assert {listening.shows(), listening.shows("box.example")} == {der(first)}
    shown.show(second)
    assert {listening.shows(), listening.shows("box.example")} == {der(second)}
    listening.close()


def test_renewed_files_are_taken_and_broken_ones_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A chain without its key yet, a wrong one, one that is gone: what was shown still is, and it is told once."""
    files, fresh = write(tmp_path, LEAF), leaf()
    follower = Follower(Given(files, LEAF, ("box.example",)))
    listening = Listening(follower.shown)
    for broken in (Certificate(fresh.cert_pem, LEAF.key_pem), leaf("other.example"), leaf(at=NOW - 400 * DAY)):
        write(tmp_path, broken)
        follower.look()
        assert listening.shows() == der(LEAF)
        assert not caplog.records
    write(tmp_path, fresh)
    follower.look()
    assert listening.shows() == der(fresh)
    files.key.unlink()
    for _ in range(SURE_LOOKS + 3):
        follower.look()
    assert listening.shows() == der(fresh)
    assert len(caplog.records) == 1
    write(tmp_path, LEAF)
    follower.look()
    assert listening.shows() == der(LEAF)
    assert len(stamp(files)) == 2
    listening.close()


def test_a_leaf_of_the_box_s_own_is_made_anew_before_it_ends() -> None:
    """A box that serves for longer than a year needs nobody for that."""
    later = [NOW]
    follower = Follower(Own(CA, ("box.example",)), lambda: later[0])
    listening = Listening(follower.shown)
    first = listening.shows()
    later[0] = NOW + 300 * DAY
    follower.look()
    assert listening.shows() == first
    later[0] = NOW + 340 * DAY
    follower.look()
    assert listening.shows() != first
    listening.close()
