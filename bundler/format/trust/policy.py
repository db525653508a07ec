"""The policy record that `release` signs with the targets, and the names of our fields in TUF metadata."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from bundler.format.manifest import order_of
from bundler.format.record import from_json

MSP = "x-lifeboat-msp"
REPOSITORY = "x-lifeboat-repository"
POLICY = "x-lifeboat-policy"
MADE = "x-lifeboat-made"


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
    return from_json(Policy, value, "policy")


def origin(url: str) -> str:
    """Returns `scheme://host:port` of a URL, with the port always written."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"
