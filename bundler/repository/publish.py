"""Signs a repository's metadata. A reader sees the old state or the new one: `timestamp.json` is written last."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
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

from bundler.files import DISK, FileLayer, exclusive, read_limited, remove_staged, write_atomic
from bundler.format import age
from bundler.format.limits import ROOT_BYTES
from bundler.format.record import to_json
from bundler.format.trust.medium import first_root, load_repository
from bundler.format.trust.policy import MADE, MSP, POLICY, REPOSITORY, Policy, read_policy
from bundler.format.trust.verify import CONTENT, CONTENT_PATHS, TrustedRepository
from bundler.format.trust.verify import TargetFile as Listed
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import Ledger, write_ledger

_LOCK = ".lock"
ROOT_DAYS, ROLE_DAYS = 3 * 365, 365


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

    @property
    def exists(self) -> bool:
        return (self._metadata / "timestamp.json").exists()

    def create(self, egress: tuple[str, ...] = (), suite: str = age.CLASSIC_SUITE) -> Policy:
        """Makes a new repository with a random id: root, an empty policy and empty content.

        Args:
            egress: Origins that boxes may talk to.
            suite: Of all its bundle identities and wraps.
        """
        signers = {role: self._keyring.signer(role) for role in ("root", "release", "refresh")}
        policy = Policy(secrets.token_hex(16), epoch=1, min_sequence=1, revoked=(), egress=egress)
        write_ledger(self._keyring, Ledger(policy.repository, suite), self._layer)
        self._write("1.root.json", self._root(signers), signers["root"])
        self._publish(policy, {}, {}, signers["refresh"].public_key, (1, 1, 1), signers["release"], signers["refresh"])
        return policy

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers of this repository out; raises Busy while one is at work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / _LOCK, f"another command is writing {self.folder}"):
            yield

    def sweep(self) -> None:
        """Removes what killed builds left: unfinished files, and bundles that were never signed."""
        remove_staged(self.folder)
        signed = {path.split("/")[1] for path in self.listed() if path.startswith("bundles/")}
        for folder in (self.folder / "bundles").glob("*"):
            if folder.name not in signed:
                shutil.rmtree(folder)

    def policy(self) -> Policy:
        return self.trusted().policy

    def listed(self) -> tuple[str, ...]:
        """Returns the paths of all signed files."""
        return tuple(self.trusted().targets)

    def allow(self, egress: tuple[str, ...]) -> None:
        """Adds origins to the policy, which takes the release key."""
        policy = self.policy()
        wider = replace(policy, egress=tuple(sorted({*policy.egress, *egress})))
        self._update({}, wider)

    def add_content(self, files: Mapping[str, Listed]) -> None:
        """Lists content files, with the refresh key alone."""
        self._update(files, None)

    def resign(self) -> None:
        """Signs the same content again, so that nothing expires."""
        self._update({}, None)

    def root_bytes(self) -> bytes:
        """Returns the first root, which a site card names."""
        return first_root(self.folder)

    def trusted(self) -> TrustedRepository:
        """Verifies the metadata as a box would."""
        return load_repository(self.folder, root=self.root_bytes(), repository=None, now=self._now, remembered=None)

    def _update(self, added: Mapping[str, Listed], policy: Policy | None) -> None:
        trusted = self.trusted()
        versions = trusted.remembered()
        targets = self._read(f"{versions.targets_version}.targets.json")
        content = self._read(f"{versions.content_version}.content.json")
        listed = {path: Listed(item.length, item.hashes["sha256"]) for path, item in content.targets.items()}
        refresh = self._keyring.signer("refresh")
        numbers = (versions.targets_version, versions.content_version + 1, versions.snapshot_version + 1)
        release = None
        if policy is not None:
            release, numbers = self._keyring.signer("release"), (numbers[0] + 1, *numbers[1:])
        wanted = policy or read_policy(targets.unrecognized_fields[POLICY])
        self._publish(wanted, targets.targets, {**listed, **added}, refresh.public_key, numbers, release, refresh)

    def _publish(
        self,
        policy: Policy,
        software: Mapping[str, TargetFile],
        content: Mapping[str, Listed],
        refresh_key: Key,
        numbers: tuple[int, int, int],
        release: Signer | None,
        refresh: Signer,
    ) -> None:
        """Writes targets (only with the release key), content, snapshot and timestamp, in that order."""
        targets_version, content_version, snapshot_version = numbers
        fields = {REPOSITORY: policy.repository}
        if release is not None:
            role = DelegatedRole(CONTENT, [refresh_key.keyid], 1, terminating=True, paths=list(CONTENT_PATHS))
            delegations = Delegations({refresh_key.keyid: refresh_key}, {CONTENT: role})
            extra = {**fields, POLICY: to_json(policy)}
            signed = Targets(targets_version, None, self._expires(), dict(software), delegations, extra)
            self._write(f"{targets_version}.targets.json", signed, release)
        files = {path: TargetFile(item.length, {"sha256": item.sha256}, path) for path, item in content.items()}
        listed = Targets(content_version, None, self._expires(), files, None, dict(fields))
        self._write(f"{content_version}.content.json", listed, refresh)
        meta = {
            "targets.json": self._meta(targets_version, "targets"),
            "content.json": self._meta(content_version, CONTENT),
        }
        snapshot = Snapshot(snapshot_version, None, self._expires(), meta, dict(fields))
        self._write(f"{snapshot_version}.snapshot.json", snapshot, refresh)
        made = {**fields, MADE: self._now.isoformat(timespec="seconds")}
        timestamp = Timestamp(snapshot_version, None, self._expires(), self._meta(snapshot_version, "snapshot"), made)
        self._write("timestamp.json", timestamp, refresh)

    def _root(self, signers: Mapping[str, Signer]) -> Root:
        root = Root(
            version=1,
            expires=self._now.replace(microsecond=0) + timedelta(days=ROOT_DAYS),
            consistent_snapshot=True,
            unrecognized_fields={MSP: self._keyring.msp().id},
        )
        keys = {"root": "root", "targets": "release", "snapshot": "refresh", "timestamp": "refresh"}
        for role, key in keys.items():
            root.add_key(signers[key].public_key, role)
        return root

    def _expires(self) -> datetime:
        return self._now.replace(microsecond=0) + timedelta(days=ROLE_DAYS)

    def _meta(self, version: int, role: str) -> MetaFile:
        data = (self._metadata / f"{version}.{role}.json").read_bytes()
        return MetaFile.from_data(version, data, ["sha256"])

    def _write(self, name: str, signed: Any, signer: Signer) -> None:
        metadata = Metadata(signed)
        metadata.sign(signer)
        write_atomic(self._metadata / name, metadata.to_bytes(), layer=self._layer)

    def _read(self, name: str) -> Targets:
        metadata: Metadata[Targets] = Metadata.from_bytes(read_limited(self._metadata / name, 10 * ROOT_BYTES))
        return metadata.signed
