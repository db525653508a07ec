"""From a changed root or policy to a published one: at once where the keys are here, else by way of a request file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from bundler.files import write_atomic
from bundler.format.errors import BadInput, NotReady
from bundler.format.trust.policy import Policy, origin
from bundler.repository import signing
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import DUTIES, Roots


@dataclass(frozen=True)
class Taken:
    """What became of a change: published, or waiting in `request` for more signatures."""

    version: int
    request: Path | None
    valid: int
    needed: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PolicyChange:
    """What to change in a policy; nothing by default."""

    revoke: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    min_sequence: int | None = None
    raise_epoch: bool = False


def full_key_ids(newest: Metadata[Root], duty: str, beginnings: Sequence[str]) -> list[str]:
    """Returns the ids of keys by their beginnings; raises BadInput where one names none or several."""
    keyids = newest.signed.roles[DUTIES[duty][0]].keyids
    found = []
    for beginning in beginnings:
        matches = [keyid for keyid in keyids if keyid.startswith(beginning)]
        if len(matches) != 1:
            raise BadInput(f"{beginning!r} names {len(matches)} keys of {duty}", "see `lifeboat keys list`")
        found.append(matches[0])
    return found


def take_root(metadata: Metadata[Root], keyring: Keyring, roots: Roots, request: Path | None, now: datetime) -> Taken:
    """Signs a new root with the keys at hand and appends it to the chain, or writes the request.

    Raises:
        NotReady: Too few keys are at hand and no request file is named; nothing was written.
    """
    lines = tuple(signing.describe(metadata, roots))
    signing.sign(metadata, keyring, roots)
    found = signing.count(metadata, roots)
    if found.complete and request is None:
        roots.add(metadata.to_bytes(), now)
    else:
        _write_request(metadata, found, request)
    return Taken(metadata.signed.version, request, found.valid, found.needed, lines)


def take_policy(publisher: Publisher, policy: Policy, keyring: Keyring, roots: Roots, request: Path | None) -> Taken:
    """The same for targets with another policy."""
    return take_targets(publisher, publisher.next_targets(policy), keyring, roots, request)


def take_targets(
    publisher: Publisher, metadata: Metadata[Targets], keyring: Keyring, roots: Roots, request: Path | None
) -> Taken:
    """The same for the next targets, whatever they change."""
    lines = tuple(signing.describe(metadata, roots))
    signing.sign(metadata, keyring, roots)
    found = signing.count(metadata, roots)
    if found.complete and request is None:
        publisher.publish_targets(metadata)
    else:
        _write_request(metadata, found, request)
    return Taken(metadata.signed.version, request, found.valid, found.needed, lines)


def publish_merged(metadata: Metadata[Any], keyring: Keyring, repository: Path | None, now: datetime) -> str:
    """Publishes a request that enough keys have signed; returns what was done.

    Raises:
        NotReady: Too few have.
        BadInput: Targets, and no repository is named.
    """
    roots = Roots(keyring.home)
    found = signing.count(metadata, roots)
    if not found.complete:
        raise NotReady(f"{found.valid} of {found.needed} signatures of {found.duty} keys", "have more copies signed")
    if isinstance(metadata.signed, Root):
        return f"root version {roots.add(metadata.to_bytes(), now)} is in force"
    if repository is None:
        raise BadInput("these are a repository's targets", "name it with --repository")
    publisher = Publisher(repository, keyring, now)
    with publisher.locked():
        publisher.publish_targets(metadata)
    return f"targets version {metadata.signed.version} are in force in {repository}"


def changed_policy(policy: Policy, change: PolicyChange) -> Policy:
    """Returns the policy with the change.

    Raises:
        BadInput: It would lower the least sequence, forbid what is not allowed, or names no URL.
    """
    allowed = {_origin(url) for url in change.allow}
    forbidden = {_origin(url) for url in change.forbid}
    if unknown := forbidden - set(policy.egress):
        raise BadInput(f"the policy does not allow {', '.join(sorted(unknown))}")
    least = policy.min_sequence if change.min_sequence is None else change.min_sequence
    if least < policy.min_sequence:
        raise BadInput(f"the least sequence is {policy.min_sequence}, it only rises")
    return replace(
        policy,
        egress=tuple(sorted(({*policy.egress} | allowed) - forbidden)),
        revoked=tuple(sorted({*policy.revoked, *change.revoke})),
        min_sequence=1 if change.raise_epoch and change.min_sequence is None else least,
        epoch=policy.epoch + (1 if change.raise_epoch else 0),
    )


def _origin(url: str) -> str:
    try:
        return origin(url)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _write_request(metadata: Metadata[Any], found: signing.Signatures, request: Path | None) -> None:
    if request is None:
        raise NotReady(
            f"{found.valid} of {found.needed} {found.duty} signatures can be made here",
            "name a file with --request, and have it signed where the keys are",
        )
    write_atomic(request, metadata.to_bytes())
