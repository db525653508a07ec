"""`build(plan, sources, repository)`: gather, prove, write, sign. A failure leaves the repository as it was."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.check import check
from bundler.files import DISK, FileLayer, write_atomic
from bundler.format import FORMAT_VERSION, age
from bundler.format.errors import NoSpace
from bundler.format.index import Index, encode_index
from bundler.format.limits import VOLUME_BYTES
from bundler.format.manifest import SUITE_X25519, Descriptor, FileDigest, Volume, bundle_id, encode_descriptor
from bundler.format.padding import pad_document
from bundler.format.trust.policy import origin
from bundler.format.trust.verify import TargetFile
from bundler.gather import Gathered, Sources, gather
from bundler.lock import Lock, settle
from bundler.plan import Plan, make_plan, pins
from bundler.profile.model import Profile
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger, write_ledger
from bundler.repository.publish import Publisher
from bundler.repository.sites import NewSite, open_repository, wrap_keys
from bundler.repository.volumes import VolumeWriter, total_bytes
from bundler.terminal import Terminal, size


@dataclass(frozen=True)
class Built:
    """What a build made; `recovery` is set once, when the repository is new."""

    bundle: str
    repository: str
    length_bytes: int
    volumes: int
    selftest: tuple[str, ...]
    recovery: NewSite | None


@dataclass(frozen=True)
class Builder:
    """Builds bundles of one profile into one repository.

    Attributes:
        publisher: Signs the repository's metadata.
        keyring: The MSP's keys.
        terminal: Progress.
        volume_bytes: Plaintext size of a full volume.
        layer: Where faults can be put.
    """

    publisher: Publisher
    keyring: Keyring
    terminal: Terminal
    volume_bytes: int = VOLUME_BYTES
    layer: FileLayer = DISK

    def build(self, sources: Sources, lock: Lock, agree: Callable[[Plan], None], now: datetime) -> tuple[Built, Lock]:
        """Builds and signs a bundle.

        Args:
            sources: The profile's sources, with the work folder.
            lock: What remote sources were before.
            agree: Shows the plan and asks; it raises to stop the build.
            now: Time of making.

        Returns:
            What was made, and the lock to be written.

        Raises:
            SourceFailed, BadInput, NoSpace, SelftestFailed: Nothing was added to the repository.
        """
        profile, found = sources.profile, sources.found()
        plan = make_plan(
            profile.name, [item for item, _ in found.values()] + sources.content(), lock, self.volume_bytes
        )
        settled = settle(lock, pins(item for item, _ in found.values()))
        agree(plan)
        self._check_space(plan)
        gathered = gather(sources, found)
        report = check(gathered)
        with self.publisher.locked():
            repository, recovery = open_repository(self.publisher, self.keyring, self.layer)
            self.publisher.sweep()
            self._allow(profile)
            descriptor = self._write(profile, gathered, repository, now)
        length = descriptor.index.length_bytes + sum(volume.length_bytes for volume in descriptor.volumes)
        lines = tuple(report.lines()) if report is not None else ()
        return Built(descriptor.bundle, repository, length, len(descriptor.volumes), lines, recovery), settled

    def _check_space(self, plan: Plan) -> None:
        folder = self.publisher.folder
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if plan.medium_bytes > free:
            raise NoSpace(f"{folder} has {size(free)} free, the bundle needs about {size(plan.medium_bytes)}")

    def _allow(self, profile: Profile) -> None:
        """A host that the policy lacks takes the release key: an unattended job stops here."""
        wanted = {origin(upstream.base_url) for upstream in profile.upstreams}
        lacking = wanted - set(self.publisher.policy().egress)
        if lacking:
            self.terminal.note(f"the policy will allow boxes to talk to: {', '.join(sorted(lacking))} (release key)")
            self.publisher.allow(tuple(lacking))

    def _write(self, profile: Profile, gathered: Gathered, repository: str, now: datetime) -> Descriptor:
        epoch, sequence = next_order(self.publisher)
        bundle, identity = bundle_id(epoch, sequence, secrets.token_hex(4)), age.X25519Identity.generate()
        folder = self.publisher.folder / "bundles" / f".{bundle}.part"
        folder.mkdir(parents=True)
        try:
            descriptor = self._write_files(profile, gathered, folder, bundle, repository, identity, now)
            self.layer.rename(folder, folder.with_name(bundle))
            self.layer.sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # The ledger first: a bundle whose identity is lost can never be opened by anybody.
        ledger = read_ledger(self.keyring, repository).with_bundle(descriptor.recipient, str(identity))
        write_ledger(self.keyring, ledger, self.layer)
        wrap_keys(self.publisher.folder, ledger, self.layer)
        self.publisher.add_content(targets_of(self.publisher.folder, descriptor))
        return descriptor

    def _write_files(
        self,
        profile: Profile,
        gathered: Gathered,
        folder: Path,
        bundle: str,
        repository: str,
        identity: age.X25519Identity,
        now: datetime,
    ) -> Descriptor:
        prefix = f"bundles/{bundle}"
        writer = VolumeWriter(folder, prefix, identity.recipient, self.volume_bytes, self.layer)
        total = total_bytes(gathered.captured)
        try:
            with self.terminal.progress(f"encrypting {size(total)}", total) as progress:
                assets = tuple(writer.add(item, progress.advance) for item in gathered.captured)
            volumes = writer.close()
        finally:
            writer.abandon()
        index = Index(FORMAT_VERSION, repository, bundle, profile.name, assets, gathered.service)
        sealed = age.encrypt(pad_document(encode_index(index)), [identity.recipient])
        write_atomic(folder / "index.age", sealed, layer=self.layer)
        descriptor = Descriptor(
            format=FORMAT_VERSION,
            suite=SUITE_X25519,
            repository=repository,
            bundle=bundle,
            epoch=int(bundle.split("-")[0]),
            sequence=int(bundle.split("-")[1]),
            made=now.isoformat(timespec="seconds"),
            recipient=str(identity.recipient),
            index=FileDigest(f"{prefix}/index.age", len(sealed), hashlib.sha256(sealed).hexdigest()),
            volumes=volumes,
        )
        write_atomic(folder / "bundle.json", encode_descriptor(descriptor), layer=self.layer)
        return descriptor


def next_order(publisher: Publisher) -> tuple[int, int]:
    """Returns epoch and sequence of the next bundle: above every bundle that was ever signed here."""
    policy = publisher.policy()
    bundles = [path.split("/")[1].split("-") for path in publisher.listed() if path.endswith("/bundle.json")]
    sequences = [int(sequence) for epoch, sequence, _ in bundles if int(epoch) == policy.epoch]
    return policy.epoch, max([policy.min_sequence - 1, *sequences]) + 1


def targets_of(folder: Path, descriptor: Descriptor) -> Mapping[str, TargetFile]:
    """Returns the targets that a bundle adds."""
    path = f"bundles/{descriptor.bundle}/bundle.json"
    data = (folder / path).read_bytes()
    files: list[FileDigest | Volume] = [descriptor.index, *descriptor.volumes]
    listed = {file.path: TargetFile(file.length_bytes, file.sha256) for file in files}
    return {**listed, path: TargetFile(len(data), hashlib.sha256(data).hexdigest())}
