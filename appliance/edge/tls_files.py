"""A server certificate of the operator's own, in two files: the chain, leaf first, and its key, both PEM.

`certificate_of` and `names_of` decide and are pure; `read` opens the files, which may be links, as certbot makes them.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from appliance.edge.tls import Certificate, loaded
from bundler.format.errors import BadInput, BadInputs

FILE_BYTES_MAX = 200_000
_OTHERS = stat.S_IRWXO | stat.S_IWGRP
_DAY_S = 86_400


@dataclass(frozen=True)
class TlsFiles:
    """Where chain and key are."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Given:
    """Files of the operator, and what they held when the box was started: it serves, whatever becomes of them.

    Attributes:
        files: Where, for what comes later.
        certificate: What they held.
        names: That a certificate from there must be good for.
    """

    files: TlsFiles
    certificate: Certificate
    names: tuple[str, ...] = ()

    def told(self) -> dict[str, str | list[str]]:
        """Returns it for a serving process, over a channel that is in memory alone."""
        pem = {"chain": self.certificate.cert_pem.decode(), "secret": self.certificate.key_pem.decode()}
        return {"cert": str(self.files.cert), "key": str(self.files.key), **pem, "names": list(self.names)}

    @classmethod
    def heard(cls, told: Mapping[str, Any]) -> Given:
        """Returns what `told` said."""
        certificate = Certificate(told["chain"].encode(), told["secret"].encode())
        return cls(TlsFiles(Path(told["cert"]), Path(told["key"])), certificate, tuple(told["names"]))


def read(files: TlsFiles, names: Sequence[str], now: datetime) -> Certificate:
    """Returns what the files hold, checked.

    Args:
        files: Where.
        names: By which clients are to reach the box; the certificate must be good for each.
        now: The time that must be within its own.

    Raises:
        BadInput: A file cannot be read, or others may read the key.
        BadInputs: It is no certificate that can be served; everything that is wrong is listed.
    """
    return certificate_of(_bytes_of(files.cert, secret=False), _bytes_of(files.key, secret=True), names, now)


def stamp(files: TlsFiles) -> tuple[tuple[int, int], ...]:
    """Returns what changes with the files, without reading them; raises OSError where one is gone."""
    found = (path.stat() for path in (files.cert, files.key))
    return tuple((status.st_ino, status.st_mtime_ns) for status in found)


def certificate_of(chain_pem: bytes, key_pem: bytes, names: Sequence[str], now: datetime) -> Certificate:
    """Returns chain and key as one certificate to serve; raises BadInputs."""
    issues = []
    try:
        leaf = leaf_of(chain_pem)
        issues += [*_issues_of_time(leaf, now), *_issues_of_names(leaf, names)]
    except ValueError:
        leaf = None
        issues.append("the certificate file holds no certificates in PEM")
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except TypeError:
        issues.append("the key is encrypted: a box that starts by itself has nobody to ask for its passphrase")
    except (ValueError, UnsupportedAlgorithm):
        issues.append("the key file holds no private key in PEM")
    else:
        if leaf is not None and key.public_key() != leaf.public_key():
            issues.append("the key is not that of the first certificate; the chain begins with the box's own")
    found = Certificate(chain_pem, key_pem)
    if not issues and (issue := _issue_of_use(found)):
        issues.append(issue)
    if issues:
        raise BadInputs("--tls-cert and --tls-key", tuple(issues), "mend the files; a running box takes them by itself")
    return found


def leaf_of(chain_pem: bytes) -> x509.Certificate:
    """Returns the first certificate of a chain; raises ValueError."""
    return x509.load_pem_x509_certificates(chain_pem)[0]


def names_of(chain_pem: bytes) -> tuple[str, ...]:
    """Returns the DNS names that a certificate is for, without wildcards: they are names of the box."""
    return tuple(name for name in _dns_names(leaf_of(chain_pem)) if not name.startswith("*"))


def days_left(chain_pem: bytes, now: datetime) -> int:
    """Returns for how many whole days a certificate is good; negative where it was."""
    return int((leaf_of(chain_pem).not_valid_after_utc - now).total_seconds() // _DAY_S)


def _bytes_of(path: Path, *, secret: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if secret and (mode := path.stat().st_mode) & _OTHERS:
                fact = f"the key {path} is open to others (mode {stat.S_IMODE(mode):04o})"
                raise BadInput(fact, f"chmod 600 {path}, and let it belong to the user of the service")
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        hint = "the service's user must be able to read it; see docs/box.md"
        raise BadInput(f"{path} cannot be read: {error.strerror}", hint) from error
    if len(data) > FILE_BYTES_MAX:
        raise BadInput(f"{path} is longer than {FILE_BYTES_MAX} bytes", "name a certificate chain and its key")
    return data


def _issues_of_time(leaf: x509.Certificate, now: datetime) -> list[str]:
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now >= ends:
        return [f"the certificate ended on {ends:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}"]
    if now < begins:
        return [f"the certificate begins on {begins:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}"]
    return []


def _issues_of_names(leaf: x509.Certificate, names: Sequence[str]) -> list[str]:
    """Clients look at the alternative names alone (RFC 9525, 6.3)."""
    known = {*_dns_names(leaf), *_addresses(leaf)}
    if not known:
        return ["the certificate is for nobody: it has no subject alternative name"]
    missing = [name for name in names if name.lower() not in known and _wildcard(name) not in known]
    return [f"the certificate is not for {name}; it is for {', '.join(sorted(known))}" for name in missing]


def _wildcard(name: str) -> str:
    return f"*.{name.lower().partition('.')[2]}"


def _dns_names(leaf: x509.Certificate) -> list[str]:
    return [name.value.lower() for name in _alternatives(leaf) if isinstance(name, x509.DNSName)]


def _addresses(leaf: x509.Certificate) -> list[str]:
    return [str(name.value) for name in _alternatives(leaf) if isinstance(name, x509.IPAddress)]


def _alternatives(leaf: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _issue_of_use(certificate: Certificate) -> str:
    """What OpenSSL itself says, which is to serve it: a key too short, a curve that TLS has not."""
    try:
        with loaded(certificate) as path:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except ssl.SSLError as error:
        return f"it cannot be served: {error.reason or 'OpenSSL refuses it'}"
    return ""
