"""Signs a repository's metadata. A reader sees the old state or the new one: `timestamp.json` is written last.

One thing comes after it: a file of the same path with other bytes (`settings.age`) is renamed into place. A reader
between the two refuses the medium and keeps what it has; the next command of the builder completes it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from bundler.files import DISK, FileLayer, exclusive, make_folder, read_limited, remove_staged, write_atomic
from bundler.format import age
from bundler.format.errors import NotReady, NotSigned, UnknownRoot
from bundler.format.limits import SETTINGS_BYTES, TARGETS_BYTES, bounded
from bundler.format.record import to_json
from bundler.format.trust.medium import load_repository
from bundler.format.trust.policy import MADE, POLICY, REPOSITORY, Policy
from bundler.format.trust.verify import CONTENT, CONTENT_PATHS, TrustedRepository, digest
from bundler.format.trust.verify import TargetFile as Listed
from bundler.repository.guards import Mark, check_clock, check_follows
from bundler.repository.installer import settle
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import Ledger, write_ledger
from bundler.repository.roots import Roots
from bundler.repository.sweep import remove, unlisted

_LOCK = ".lock"
_NEXT = ".next-"
ROLE_DAYS = 365
RENEW_BEFORE = timedelta(days=90)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
S = TypeVar("S", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True)
class _Numbers:
    """Versions of the roles as they are now."""

    targets: int
    content: int
    snapshot: int
    timestamp: int
    made: datetime | None = None


class Publisher:
    """Writes the metadata of one repository.

    Args:
        folder: The repository.
        keyring: Keys are opened only for the roles that must change.
        now: Time of making; expiry counts from it.
        layer: Where faults can be put.
    """

    def __init__(self, folder: Path, keyring: Keyring, now: datetime, layer: FileLayer = DISK) -> None:
        self.folder, self._keyring, self._now, self._layer = folder, keyring, now, layer
        self._metadata = folder / "metadata"
        self._roots = Roots(keyring.home, layer)
        self._mark = Mark(keyring.home, layer)

    @property
    def exists(self) -> bool:
        """Whether there is a repository, be it a damaged one; what a stopped `create` left is none yet."""
        if (self._metadata / "timestamp.json").exists():
            return True
        held = [path for top in ("bundles", "sites") for path in (self.folder / top).glob("[!.]*")]
        # Roots are the MSP's, whatever their number: a `create` writes all of them before its first timestamp.
        own = [path.name for path in self._metadata.glob("[!.]*.json") if not path.name.endswith(".root.json")]
        later = [name for name in own if not name.startswith("1.")]
        return bool(held or later)

    def create(self, egress: tuple[str, ...] = (), suite: str = age.CLASSIC_SUITE) -> Policy:
        """Makes a new repository with a random id: the MSP's roots, an empty policy and empty content.

        Args:
            egress: Origins that boxes may talk to.
            suite: Of all its bundle identities and wraps.
        """
        policy = Policy(secrets.token_hex(16), epoch=1, min_sequence=1, revoked=(), egress=egress)
        write_ledger(self._keyring, Ledger(policy.repository, suite), self._layer)
        targets = self._signed(self.draft_targets(policy, {}, 1), "targets")
        self._publish(policy.repository, targets, {}, _Numbers(1, 0, 0, 0))
        return policy

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers of this repository out; raises Busy while one is at work."""
        make_folder(self.folder, self._layer)
        with exclusive(self.folder / _LOCK, f"another command is writing {self.folder}"):
            if self.exists:
                self.complete()
            yield

    def sweep(self) -> None:
        """Removes what killed builds and prunes left: unfinished files, and those that nothing signed names."""
        remove_staged(self.folder)
        remove(self.folder, unlisted(self.folder, self.listed()), self._layer)

    def policy(self) -> Policy:
        return self.trusted().policy

    def listed(self) -> tuple[str, ...]:
        """Returns the paths of all signed files."""
        return tuple(self.trusted().targets)

    def allow(self, egress: tuple[str, ...]) -> None:
        """Adds origins to the policy, which takes the release key."""
        policy = self.policy()
        self.change_policy(replace(policy, egress=tuple(sorted({*policy.egress, *egress}))))

    def change_policy(self, policy: Policy) -> None:
        """Signs another policy; raises NotReady where too few release keys are at hand."""
        self.publish_targets(self._signed(self.next_targets(policy), "targets"))

    def next_targets(self, policy: Policy) -> Metadata[Targets]:
        """Returns the next targets, unsigned, with this policy and the content keys of the newest root."""
        current = self._current_targets(self.trusted()).signed
        return self.draft_targets(policy, current.targets, current.version + 1)

    def publish_targets(self, targets: Metadata[Targets]) -> None:
        """Publishes targets that enough release keys have signed, wherever they did.

        Raises:
            NotReady: Too few have; nothing was written.
            BadInput: They are another repository's, do not follow the ones in force, or take back a revocation.
        """
        self._require(targets, "targets")
        trusted = self.trusted()
        check_follows(targets.signed, trusted.policy, trusted.remembered().targets_version)
        self._publish(trusted.policy.repository, targets, self._content(trusted), self._numbers(trusted))
        self.complete()

    def add_content(self, files: Mapping[str, Listed]) -> None:
        """Lists content files, with the refresh key alone."""
        self._update({}, files)

    def replace_content(self, files: Mapping[str, bytes]) -> None:
        """Lists and writes small files that may replace others of the same path.

        The new bytes lie beside the old ones until their digest is signed; `complete` finishes a stopped call.
        """
        listed = {path: Listed(len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()}
        for path, data in files.items():
            write_atomic(_next_to(self.folder / path), data, layer=self._layer)
        self.add_content(listed)
        self.complete()

    def complete(self) -> None:
        """Puts signed files in place that a stopped `replace_content` had left beside them, and removes others."""
        targets = self.trusted().targets
        for fresh in (self.folder / "sites").glob(f"*/{_NEXT}*"):
            path = fresh.with_name(fresh.name.removeprefix(_NEXT))
            target = targets.get(path.relative_to(self.folder).as_posix())
            if target is not None and digest(read_limited(fresh, SETTINGS_BYTES)) == target.sha256:
                self._layer.rename(fresh, path)
                self._layer.sync_folder(path.parent)
            else:
                fresh.unlink()
        settle(self.folder, targets, self._layer)

    def drop_content(self, paths: Collection[str]) -> None:
        """Takes content files from the list; the files themselves are left."""
        self._update(dict.fromkeys(paths), {})

    def resign(self) -> None:
        """Signs the same content again, so that nothing expires, and takes up newer roots."""
        self._update({}, {})

    def first_root(self) -> bytes:
        """Returns the MSP's first root, from which any box can follow the chain."""
        return self._roots.all()[0]

    def newest_root(self) -> bytes:
        """Returns the root that a new site card names."""
        return self._roots.all()[-1]

    def trusted(self) -> TrustedRepository:
        """Verifies the metadata by the MSP's own roots, whatever root lies in the folder.

        A root is written just before the timestamp that its keys sign; where the builder was stopped between the two,
        the state under a root before it still counts here, and the next write completes it.
        """
        if not self.exists:
            raise NotReady(f"{self.folder} holds no repository", "name its folder, or run `lifeboat site add`")
        roots, wrong = self._roots.all(), None
        for version in range(len(roots), 0, -1):
            try:
                return self._mark.require(self._loaded(roots[version - 1], version), self.folder)
            except NotSigned as error:
                wrong = wrong or error
        raise UnknownRoot(
            f"{self.folder} is not signed by the MSP of this home", "name the home that made it with --home"
        ) from wrong

    def _loaded(self, root: bytes, version: int) -> TrustedRepository:
        # Expiry does not stop the builder: signing anew is what mends it.
        return load_repository(
            self.folder, root=root, repository=None, now=_BEGINNING, remembered=None, root_limit=version
        )

    def _update(self, dropped: Mapping[str, None], added: Mapping[str, Listed]) -> None:
        trusted = self.trusted()
        current = self._current_targets(trusted)
        wanted = self.draft_targets(trusted.policy, current.signed.targets, current.signed.version + 1)
        root = self._roots.newest().signed
        holds = root.get_verification_result("targets", current.signed_bytes, current.signatures)
        # A newer root may have given the release or the refresh role to other keys.
        stale = not holds or current.signed.delegations != wanted.signed.delegations
        targets = self._signed(wanted, "targets") if stale or self._may_renew(current.signed) else None
        kept = {path: item for path, item in self._content(trusted).items() if path not in dropped}
        self._publish(trusted.policy.repository, targets, {**kept, **added}, self._numbers(trusted))

    def _may_renew(self, targets: Targets) -> bool:
        """Whether the release role expires soon and its keys are at hand; a nightly job has none and goes on."""
        role = self._roots.newest().signed.roles["targets"]
        soon = targets.expires.replace(tzinfo=UTC) - self._now < RENEW_BEFORE
        return soon and len(self._keyring.at_hand(role.keyids)) >= role.threshold

    def draft_targets(self, policy: Policy, software: Mapping[str, TargetFile], version: int) -> Metadata[Targets]:
        """Returns unsigned targets: software, the policy, and the delegation to the refresh keys of the newest root."""
        root = self._roots.newest().signed
        refresh = root.roles["snapshot"]
        role = DelegatedRole(
            CONTENT, list(refresh.keyids), refresh.threshold, terminating=True, paths=list(CONTENT_PATHS)
        )
        delegations = Delegations({keyid: root.keys[keyid] for keyid in refresh.keyids}, {CONTENT: role})
        extra = {REPOSITORY: policy.repository, POLICY: to_json(policy)}
        return Metadata(Targets(version, None, self._expires(), dict(software), delegations, extra))

    def _publish(
        self, repository: str, targets: Metadata[Targets] | None, content: Mapping[str, Listed], versions: _Numbers
    ) -> None:
        """Makes all roles anew (targets only where they change), reads them as a box will, and only then writes.

        Written in this order: targets, content, snapshot, newer roots, timestamp.
        """
        number = versions.targets if targets is None else targets.signed.version
        name = f"{number}.targets.json"
        targets_data = read_limited(self._metadata / name, TARGETS_BYTES) if targets is None else targets.to_bytes()
        fields = {REPOSITORY: repository}
        files = {path: TargetFile(item.length, {"sha256": item.sha256}, path) for path, item in content.items()}
        listed = Targets(versions.content + 1, None, self._expires(), files, None, dict(fields))
        content_data = self._signed(Metadata(listed), "snapshot").to_bytes()
        meta = {"targets.json": _meta(number, targets_data), "content.json": _meta(listed.version, content_data)}
        snapshot = Snapshot(versions.snapshot + 1, None, self._expires(), meta, dict(fields))
        snapshot_data = self._signed(Metadata(snapshot), "snapshot").to_bytes()
        made = {**fields, MADE: self._now.isoformat(timespec="seconds")}
        names = _meta(snapshot.version, snapshot_data)
        timestamp = Timestamp(versions.timestamp + 1, None, self._expires(), names, made)
        timestamp_data = self._signed(Metadata(timestamp), "timestamp").to_bytes()
        self._check(timestamp_data, snapshot_data, targets_data, content_data)
        check_clock(self._now, versions.made)
        if targets is not None:
            self._write(name, targets_data)
        self._write(f"{listed.version}.content.json", content_data)
        self._write(f"{snapshot.version}.snapshot.json", snapshot_data)
        self._copy_roots()
        self._write("timestamp.json", timestamp_data)
        self._mark.store(repository, timestamp.version)

    def _check(self, timestamp: bytes, snapshot: bytes, targets: bytes, content: bytes) -> None:
        """Reads what is about to be written as a box will; raises what a box would say of it."""
        bounded(content, TARGETS_BYTES, "the list of content")
        bounded(targets, TARGETS_BYTES, "the list of software")
        trusted = TrustedRepository(self.newest_root(), repository=None, now=self._now, remembered=None)
        trusted.update_timestamp(timestamp)
        trusted.update_snapshot(snapshot)
        trusted.update_targets(targets)
        trusted.update_content(content)

    def _copy_roots(self) -> None:
        for number, data in enumerate(self._roots.all(), 1):
            if not (self._metadata / f"{number}.root.json").exists():
                write_atomic(self._metadata / f"{number}.root.json", data, layer=self._layer)

    def _signed(self, metadata: Metadata[S], role: str) -> Metadata[S]:
        """Signs with the role's keys at hand, each once; raises NotReady if they are too few."""
        keyids = self._roots.newest().signed.roles[role].keyids
        signers: list[Signer] = self._keyring.signers(keyids)
        for signer in signers:
            metadata.sign(signer, append=True)
        self._require(metadata, role)
        return metadata

    def _require(self, metadata: Metadata[Any], role: str) -> None:
        root = self._roots.newest().signed
        result = root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if not result:
            raise NotReady(
                f"{role} metadata needs {root.roles[role].threshold} signatures, {len(result.signed)} can be made here",
                "bring the keys, or sign by file: `lifeboat keys request`",
            )

    def _numbers(self, trusted: TrustedRepository) -> _Numbers:
        found = trusted.remembered()
        # A new refresh key voids what the old one signed, its time included.
        made = trusted.made if trusted.root_version == len(self._roots.all()) else None
        return _Numbers(
            found.targets_version, found.content_version, found.snapshot_version, found.timestamp_version, made
        )

    def _current_targets(self, trusted: TrustedRepository) -> Metadata[Targets]:
        return self._read(f"{trusted.remembered().targets_version}.targets.json")

    def _content(self, trusted: TrustedRepository) -> dict[str, Listed]:
        listed = self._read(f"{trusted.remembered().content_version}.content.json").signed.targets
        return {path: Listed(item.length, item.hashes["sha256"]) for path, item in listed.items()}

    def _expires(self) -> datetime:
        return self._now.replace(microsecond=0) + timedelta(days=ROLE_DAYS)

    def _write(self, name: str, data: bytes) -> None:
        write_atomic(self._metadata / name, data, layer=self._layer)

    def _read(self, name: str) -> Metadata[Targets]:
        return Metadata.from_bytes(read_limited(self._metadata / name, TARGETS_BYTES))


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, ["sha256"])


def _next_to(path: Path) -> Path:
    return path.with_name(f"{_NEXT}{path.name}")
