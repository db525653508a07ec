"""The policy record that `release` signs with the targets, and the names of our fields in TUF metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from bundler.format.errors import BadBundle
from bundler.format.manifest import EPOCH_MAX, SEQUENCE_MAX, order_of
from bundler.format.record import from_json

MSP = "x-lifeboat-msp"
REPOSITORY = "x-lifeboat-repository"
POLICY = "x-lifeboat-policy"
MADE = "x-lifeboat-made"
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9])?|[0-9a-f]*:[0-9a-f:.]+")
# SMTP of submission (RFC 6409) and of submission over TLS (RFC 8314).
_PORTS = {"https": 443, "http": 80, "smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class Policy:
    """What the content of a repository may do.

    Attributes:
        repository: The random id of the repository.
        epoch: The epoch that bundles must have; only `release` raises it.
        min_sequence: The least sequence that may be installed.
        revoked: Ids of bundles that are neither activated nor rolled back to.
        egress: Origins, `scheme://host:port`, that a box may ever talk to.
    """

    repository: str
    epoch: int
    min_sequence: int
    revoked: tuple[str, ...]
    egress: tuple[str, ...]


def may_install(bundle: str, policy: Policy) -> bool:
    """Says whether the policy lets a bundle be installed: of its epoch, not below its least, not revoked."""
    epoch, sequence = order_of(bundle)
    return epoch == policy.epoch and sequence >= policy.min_sequence and bundle not in policy.revoked


def read_policy(value: object) -> Policy:
    """Reads the record out of verified metadata; raises BadBundle if it is not one."""
    policy = from_json(Policy, value, "policy")
    for bundle in policy.revoked:
        order_of(bundle)
    for host in policy.egress:
        if not _is_origin(host):
            raise BadBundle(f"the policy allows {host[:80]!r}, which is no scheme://host:port")
    if not 1 <= policy.epoch <= EPOCH_MAX or not 1 <= policy.min_sequence <= SEQUENCE_MAX:
        raise BadBundle("the policy has no sound epoch or least sequence")
    return policy


def origin(url: str) -> str:
    """Returns `scheme://host:port` of a URL, with the port always written.

    Raises:
        ValueError: It is no http, https, smtp or smtps URL, has no host or no port that can be, or carries a user.
    """
    wrong = f"{url!r} is no http or https URL of a host"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from None
    host = parts.hostname or ""
    # Brackets are for IPv6 alone (RFC 3986 3.2.2): without them "[v1.x]" would name the host "v1.x".
    named = _HOST.fullmatch(host) is not None and ("[" in parts.netloc) == (":" in host)
    if parts.scheme not in _PORTS or not named or "@" in parts.netloc or not url.isprintable():
        raise ValueError(wrong)
    if port == 0:
        raise ValueError(f"{url!r} names port 0")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or _PORTS[parts.scheme]}"


def _is_origin(text: str) -> bool:
    try:
        return origin(text) == text
    except ValueError:
        return False
