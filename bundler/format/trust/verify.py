"""Verification of a repository's metadata: a state machine over bytes, with no I/O and no clock of its own.

Rules, in the order in which they are applied (TUF specification 1.0.33, section 5, numbers in brackets):

1. The root that the box pinned, or that the site card proves, is the start; nothing else is trusted [5.2].
2. Later roots follow one by one; each is signed by the threshold of the root before it and by its own [5.3.4, 5.3.5].
3. timestamp, snapshot, targets, content: signature by the threshold first, then the digest that the role above it
   names, then the version, which never falls below what was remembered [5.4, 5.5, 5.6, 5.6.7].
4. Every role but root carries the repository's id; another customer's repository is refused though the MSP's root
   signed it. Root carries the MSP's id.
5. `content` may list bundles and settings only: neither software nor policy. The delegation's paths say so to any
   TUF client, and they are checked here again.
   A root that takes a key of a role away makes that role's remembered versions void: a thief may have raised them
   [5.3.11].
6. Time is max(clock, signed making time of the newest timestamp accepted). The stick may be old: an expired timestamp
   or snapshot warns; expired root, targets or content has 180 days of grace, then the medium is refused.

Absent on purpose: from a path an expired timestamp is not fatal (5.4.4, 5.5.6), since a freeze is what a stick is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from bundler.format import canonical
from bundler.format.errors import BadBundle, MetadataExpired, NotSigned, TooOld, UnknownRoot
from bundler.format.paths import check_all
from bundler.format.trust.policy import MADE, MSP, POLICY, REPOSITORY, Policy, read_policy

CONTENT = "content"
CONTENT_PATHS = ("bundles/*/*", "bundles/*/vol/*", "sites/*/settings.age")
GRACE = timedelta(days=180)
WARN_BEFORE = timedelta(days=60)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
P = TypeVar("P")


@dataclass(frozen=True)
class TargetFile:
    """A signed file of the repository: its length in bytes and SHA-256."""

    length: int
    sha256: str


@dataclass(frozen=True)
class Remembered:
    """What a box has accepted: versions never fall below these, nor the time below `signed_time` (ISO 8601)."""

    root_version: int
    timestamp_version: int
    snapshot_version: int
    targets_version: int
    content_version: int
    signed_time: str


class TrustedRepository:
    """Takes metadata in the order of the rules; a role that was not fed leaves the repository unusable.

    Args:
        root: Bytes of the trusted root metadata.
        repository: Id of the repository that the site belongs to, or None to accept the one of the targets.
        now: The clock, aware.
        remembered: What was accepted before, or None on first contact.
    """

    def __init__(self, root: bytes, *, repository: str | None, now: datetime, remembered: Remembered | None) -> None:
        self._remembered = remembered
        self._repository = repository
        self._warnings: list[str] = []
        self._root_md = _parse(root, Root, "root")
        self._verify_root(self._root_md, self._root_md.signed)
        self.root = root
        # Only signed times are remembered: a wrong clock must not lock the box out for ever.
        self._signed_before = datetime.fromisoformat(remembered.signed_time) if remembered else _EPOCH
        self._clock, self._now = now, max(now, self._signed_before)
        self._timestamp: Timestamp | None = None
        self._snapshot: Snapshot | None = None
        self._targets: Targets | None = None
        self._content: Targets | None = None
        self._policy: Policy | None = None
        self._made: datetime | None = None
        self._signed_files: dict[str, TargetFile] | None = None

    @property
    def root_version(self) -> int:
        return self._root_md.signed.version

    @property
    def msp(self) -> str:
        return _text(self._root_md.signed, MSP)

    def update_root(self, data: bytes) -> None:
        """Takes the next root version [5.3]; raises UnknownRoot if the chain does not hold."""
        fresh = _parse(data, Root, "root")
        if fresh.signed.version != self.root_version + 1:  # 5.3.5
            raise UnknownRoot(f"root version {fresh.signed.version} does not follow {self.root_version}")
        self._verify_root(fresh, self._root_md.signed)
        self._verify_root(fresh, fresh.signed)
        if _text(fresh.signed, MSP) != self.msp:
            raise UnknownRoot("the next root is another MSP's")
        self._forget(self._root_md.signed, fresh.signed)
        self._root_md, self.root = fresh, data

    def update_timestamp(self, data: bytes) -> None:
        """Takes the timestamp [5.4] and with it the signed time; the root chain is complete then."""
        least = self._remembered
        if least is not None and self.root_version < least.root_version:
            raise TooOld(f"the medium's root is version {self.root_version}, this box knows {least.root_version}")
        signed = self._verified(data, Timestamp, "timestamp")
        _not_older(signed, least.timestamp_version if least else 0, "timestamp")  # 5.4.3
        _not_older(signed.snapshot_meta, least.snapshot_version if least else 0, "snapshot")
        self._made = _time(signed)
        self._now = max(self._now, self._made)
        self._expiry(self._root_md.signed, "root", grace=True)
        self._expiry(signed, "timestamp", grace=False)
        self._timestamp = signed

    def update_snapshot(self, data: bytes) -> None:
        """Takes the snapshot [5.5]."""
        _matches(self._fed(self._timestamp).snapshot_meta, data, "snapshot")
        signed = self._verified(data, Snapshot, "snapshot")
        for role in ("targets", CONTENT):
            if f"{role}.json" not in signed.meta:
                raise BadBundle(f"the snapshot does not list {role}")
        if signed.version != self._fed(self._timestamp).snapshot_meta.version:
            raise BadBundle("the snapshot is not the version that the timestamp names")
        least = self._remembered
        _not_older(signed.meta["targets.json"], least.targets_version if least else 0, "targets")  # 5.5.5
        _not_older(signed.meta["content.json"], least.content_version if least else 0, CONTENT)
        self._expiry(signed, "snapshot", grace=False)
        self._snapshot = signed

    def update_targets(self, data: bytes) -> None:
        """Takes the top-level targets [5.6] with the policy."""
        signed = self._listed(data, "targets")
        check_key_ids(signed.delegations.keys if signed.delegations is not None else {})
        self._policy = read_policy(signed.unrecognized_fields.get(POLICY))
        if self._policy.repository != _text(signed, REPOSITORY):
            raise BadBundle("the policy is another repository's")
        self._expiry(signed, "targets", grace=True)
        self._targets = signed

    def update_content(self, data: bytes) -> None:
        """Takes the delegated role `content` [5.6.7]."""
        targets = self._fed(self._targets)
        if targets.delegations is None or CONTENT not in (targets.delegations.roles or {}):
            raise BadBundle("the targets delegate nothing to content")
        signed = self._listed(data, CONTENT, delegator=targets)
        role = (targets.delegations.roles or {})[CONTENT]
        foreign = [path for path in signed.targets if not role.is_delegated_path(path) or not _is_content(path)]
        if foreign:
            raise BadBundle(f"content lists what it may not: {', '.join(sorted(foreign)[:5])}")
        self._expiry(signed, CONTENT, grace=True)
        check_all([*targets.targets, *signed.targets])
        self._content = signed
        listed = {**signed.targets, **targets.targets}
        self._signed_files = {path: TargetFile(item.length, item.hashes["sha256"]) for path, item in listed.items()}

    @property
    def policy(self) -> Policy:
        return self._fed(self._policy)

    @property
    def made(self) -> datetime:
        """When the newest timestamp was made, by its signature."""
        return self._fed(self._made)

    @property
    def expiries(self) -> dict[str, datetime]:
        """When each role expires, by its name."""
        roles: dict[str, Signed | None] = {"root": self._root_md.signed, "targets": self._targets}
        roles |= {CONTENT: self._content, "snapshot": self._snapshot, "timestamp": self._timestamp}
        return {name: self._fed(signed).expires.replace(tzinfo=UTC) for name, signed in roles.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    @property
    def targets(self) -> Mapping[str, TargetFile]:
        """Every signed file, by path."""
        return self._fed(self._signed_files)

    def remembered(self) -> Remembered:
        """Returns what the box must remember of this repository."""
        return Remembered(
            self.root_version,
            self._fed(self._timestamp).version,
            self._fed(self._snapshot).version,
            self._fed(self._targets).version,
            self._fed(self._content).version,
            max(self.made, self._signed_before).isoformat(),
        )

    def metadata_name(self, role: str) -> str:
        """Returns the file name of the next role, with its version: consistent snapshots, metadata only."""
        if role == "snapshot":
            return f"{self._fed(self._timestamp).snapshot_meta.version}.snapshot.json"
        return f"{self._fed(self._snapshot).meta[f'{role}.json'].version}.{role}.json"

    def _forget(self, old: Root, fresh: Root) -> None:
        """Forgets what a key signed that this root takes away [5.3.11]: a thief may have raised versions and times."""
        least = self._remembered
        if least is None or fresh.version <= least.root_version:
            return
        if any(_lost_a_key(role, old, fresh) for role in ("timestamp", "snapshot")):
            least = replace(least, timestamp_version=0, snapshot_version=0, content_version=0)
            self._signed_before, self._now = _EPOCH, self._clock
        if _lost_a_key("targets", old, fresh):
            least = replace(least, targets_version=0)
        self._remembered = least

    def _verify_root(self, fresh: Metadata[Root], by: Root) -> None:
        check_key_ids(fresh.signed.keys)
        if not fresh.signed.consistent_snapshot:
            raise UnknownRoot(f"root version {fresh.signed.version} has no consistent snapshots")
        try:
            by.verify_delegate("root", fresh.signed_bytes, fresh.signatures)
        except (RepositoryError, ValueError) as error:
            raise UnknownRoot(
                f"root version {fresh.signed.version} is not signed by those whom this box trusts"
            ) from error

    def _verified(self, data: bytes, kind: type[S], role: str, delegator: Root | Targets | None = None) -> S:
        parsed = _parse(data, kind, role)
        try:
            (delegator or self._root_md.signed).verify_delegate(role, parsed.signed_bytes, parsed.signatures)
        except (RepositoryError, ValueError) as error:
            raise NotSigned(f"{role} metadata is not signed by those whom the root names: {error}") from error
        found = _text(parsed.signed, REPOSITORY)
        self._repository = self._repository or found
        if found != self._repository:
            hint = "it is the medium of another repository, perhaps of another customer: bring the one for this box"
            raise BadBundle(f"{role} metadata is of repository {found[:40]!r}, expected {self._repository!r}", hint)
        return parsed.signed

    def _listed(self, data: bytes, role: str, delegator: Targets | None = None) -> Targets:
        meta = self._fed(self._snapshot).meta[f"{role}.json"]
        _matches(meta, data, role)
        signed = self._verified(data, Targets, role, delegator)
        if signed.version != meta.version:  # 5.6.3
            raise BadBundle(f"{role} metadata is version {signed.version}, the snapshot names {meta.version}")
        for path, item in signed.targets.items():
            if set(item.hashes) != {"sha256"}:
                raise BadBundle(f"{path} is not listed with one SHA-256")
        return signed

    def _expiry(self, signed: Signed, role: str, *, grace: bool) -> None:
        expires = signed.expires.replace(tzinfo=UTC)
        over = self._now - expires
        if grace and over > GRACE:
            hint = "ask the builder for freshly signed metadata; what is installed keeps running"
            raise MetadataExpired(f"{role} metadata expired {over.days} days ago, the grace is {GRACE.days}", hint)
        if over > timedelta(0):
            made = f", made {(self._now - self._made).days} days ago" if self._made else ""
            self._warnings.append(f"{role} metadata expired {over.days} days ago{made}")
        elif over > -WARN_BEFORE:
            self._warnings.append(f"{role} metadata expires in {-over.days} days")

    def _fed(self, part: P | None) -> P:
        if part is None:
            raise BadBundle("the repository's metadata is not complete")
        return part


def check_key_ids(keys: Mapping[str, Key]) -> None:
    """Holds every key against its id: the SHA-256 of its canonical form (TUF 4.2). Ids are what people compare.

    Raises:
        BadBundle: A key stands under another's id, or is no Ed25519 key.
    """
    for keyid, key in keys.items():
        if (key.keytype, key.scheme) != ("ed25519", "ed25519"):
            raise BadBundle(f"key {keyid[:16]} is of type {key.keytype[:40]!r}")
        try:
            found = digest(canonical.encode(key.to_dict()))
        except (TypeError, ValueError, RecursionError) as error:  # a float, a lone surrogate: no key of ours has any
            raise BadBundle(f"key {keyid[:16]} has no canonical form") from error
        if found != keyid:
            raise BadBundle(f"another key stands under the id {keyid[:16]}")


def _lost_a_key(role: str, old: Root, fresh: Root) -> bool:
    return not set(old.roles[role].keyids) <= set(fresh.roles[role].keyids)


def _parse(data: bytes, kind: type[S], role: str) -> Metadata[S]:
    try:
        parsed: Metadata[Any] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise BadBundle(f"{role} metadata is not TUF metadata") from error
    if not isinstance(parsed.signed, kind):
        raise BadBundle(f"{role} metadata is of type {parsed.signed.type!r}")
    return parsed


def _matches(meta: MetaFile, data: bytes, role: str) -> None:
    if meta.hashes is None or meta.length is None:
        raise BadBundle(f"{role} metadata is listed without length and digest")
    try:
        meta.verify_length_and_hashes(data)  # 5.5.2, 5.6.2
    except (RepositoryError, DownloadError) as error:
        raise BadBundle(f"{role} metadata is not the file that the role above it names") from error


def _not_older(found: Signed | MetaFile, least: int, role: str) -> None:
    if found.version < least:
        raise TooOld(f"{role} metadata is version {found.version}, this box has accepted {least}")


def _text(signed: Signed, field: str) -> str:
    value = signed.unrecognized_fields.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise BadBundle(f"{signed.type} metadata carries no {field}")
    return value


def _time(signed: Signed) -> datetime:
    try:
        made = datetime.fromisoformat(_text(signed, MADE))
    except ValueError:
        raise BadBundle("the timestamp carries no time of making") from None
    if made.tzinfo is None:
        raise BadBundle("the timestamp's time of making has no zone")
    return made


def _is_content(path: str) -> bool:
    """Checks rule 5 without the glob of a delegation that a mistaken release key may have widened."""
    parts = path.split("/")
    bundle = parts[0] == "bundles" and (len(parts) == 3 or (len(parts) == 4 and parts[2] == "vol"))
    return bundle or (parts[0] == "sites" and len(parts) == 3 and parts[2] == "settings.age")


def digest(data: bytes) -> str:
    """Returns the SHA-256 by which a root is named on a card."""
    return hashlib.sha256(data).hexdigest()
