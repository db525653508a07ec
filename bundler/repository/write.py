"""Writes a bundle into a repository: survey, use again what earlier volumes hold, encrypt the rest, sign."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bundler.files import DISK, FileLayer, make_folder, write_atomic
from bundler.format import FORMAT_VERSION, age
from bundler.format.bundle import open_bundle
from bundler.format.content import content_of
from bundler.format.index import Asset, Index, content_digest, encode_index
from bundler.format.manifest import Descriptor, FileDigest, Volume, bundle_id, encode_descriptor, order_of
from bundler.format.padding import pad_document
from bundler.format.service import Service
from bundler.format.trust.descriptors import newest_descriptor, read_descriptors
from bundler.format.trust.verify import TargetFile
from bundler.repository.about import NOTHING, About, content_of_surveyed, is_same
from bundler.repository.base import link_volumes, read_base
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import Ledger, read_ledger, write_ledger
from bundler.repository.publish import Publisher
from bundler.repository.reuse import Earlier, choose, none_of
from bundler.repository.sites import wrap_keys
from bundler.repository.survey import Captured, Surveyed, survey, total_bytes
from bundler.repository.survey_cache import NO_CACHE, SurveyCache
from bundler.repository.volumes import VolumeWriter
from bundler.terminal import Terminal, size


@dataclass(frozen=True)
class Written:
    """What came of it: where nothing changed, `descriptor` is the bundle that is there already."""

    descriptor: Descriptor
    changed: bool
    new_bytes: int
    content_sha256: str


@dataclass(frozen=True)
class BundleWriter:
    """Writes bundles into one repository; the caller holds its lock.

    Attributes:
        publisher: Signs the repository's metadata.
        keyring: The MSP's keys.
        terminal: Progress.
        volume_bytes: Plaintext size of a full volume.
        base: A base repository whose volumes are used, or None.
        cache: Remembers what earlier builds read.
        layer: Where faults can be put.
        about: Writes what the bundle tells about itself.
        unwanted: Whether a volume that holds this asset of an earlier bundle must not travel again.
    """

    publisher: Publisher
    keyring: Keyring
    terminal: Terminal
    volume_bytes: int
    base: Path | None = None
    cache: SurveyCache = NO_CACHE
    layer: FileLayer = DISK
    about: About = NOTHING
    unwanted: Callable[[Asset], bool] = none_of

    def write(self, profile: str, captured: tuple[Captured, ...], service: Service, now: datetime) -> Written:
        """Writes and signs a bundle, or only signs again where nothing changed.

        Raises:
            BadInput: A file changed while it was read, or the base cannot be used.
        """
        folder, trusted = self.publisher.folder, self.publisher.trusted()
        ledger = read_ledger(self.keyring, trusted.policy.repository)
        installable = newest_descriptor(folder, trusted)
        # Revocation names bundles, not volumes: what a forbidden bundle holds may still be used again.
        listed = read_descriptors(folder, trusted)[-1:]
        earlier = [_opened(folder, newest, ledger.identities) for newest in listed]
        if self.base is None and not earlier:
            index = Index(FORMAT_VERSION, ledger.repository, "", profile, (), service)
            return self._write(index, captured, (), (), ledger, now)
        surveyed = self._survey(captured)
        settled = with_digests(service, {item.captured.path: item.digests() for item in surveyed})
        content = content_of_surveyed(profile, surveyed, settled)
        surveyed += self._survey(self.about.inside(surveyed, content))
        unchanged = installable is not None and [installable] == listed
        if unchanged and is_same(earlier[0].index, profile, surveyed, settled) and self._shows(earlier[0].descriptor):
            self.publisher.resign()
            return Written(earlier[0].descriptor, changed=False, new_bytes=0, content_sha256=content)
        if self.base is not None:
            base, identities = read_base(self.base, trusted.root, self.keyring, now)
            earlier.append(base)
            ledger = ledger.with_identities(identities)
        index = Index(FORMAT_VERSION, ledger.repository, "", profile, (), service)
        return self._write(index, captured, surveyed, earlier, ledger, now)

    def _survey(self, captured: tuple[Captured, ...]) -> tuple[Surveyed, ...]:
        known = [self.cache.known(item) for item in captured]
        unread = total_bytes(tuple(item for item, found in zip(captured, known, strict=True) if found is None))
        surveyed = []
        with self.terminal.progress(f"hashing {size(unread)}", unread) as progress:
            for item, found in zip(captured, known, strict=True):
                surveyed.append(found or survey(item, progress.advance))
                if found is None:
                    self.cache.keep(surveyed[-1])
        return tuple(surveyed)

    def _write(
        self,
        draft: Index,
        captured: tuple[Captured, ...],
        surveyed: Sequence[Surveyed],
        earlier: Sequence[Earlier],
        ledger: Ledger,
        now: datetime,
    ) -> Written:
        epoch, sequence = next_order(self.publisher)
        bundle, identity = bundle_id(epoch, sequence, secrets.token_hex(4)), age.generate_identity(ledger.suite)
        folder = self.publisher.folder / "bundles" / f".{bundle}.part"
        make_folder(folder.parent, self.layer)
        (folder / "vol").mkdir(parents=True)
        try:
            work = _Work(self, folder, f"bundles/{bundle}", identity, draft, now)
            made = work.finish(captured, surveyed, earlier)
            descriptor, beside = made.descriptor, self.about.beside(made.descriptor)
            for name, data in beside.items():
                write_atomic(folder / name, data, layer=self.layer)
            if self.base is not None:
                foreign = [volume for volume in descriptor.volumes if not volume.path.startswith(f"bundles/{bundle}/")]
                link_volumes(self.base, self.publisher.folder, foreign, self.layer)
            self.layer.sync_folder(folder / "vol")
            self.layer.sync_folder(folder)
            self.layer.rename(folder, folder.with_name(bundle))
            self.layer.sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # The ledger first: a bundle whose identity is lost can never be opened by anybody.
        ledger = ledger.with_identities({str(identity.recipient): str(identity)})
        write_ledger(self.keyring, ledger, self.layer)
        wrap_keys(self.publisher, ledger, [descriptor], self.layer)
        added = targets_of(self.publisher.folder, descriptor, beside)
        self.publisher.add_content(added)
        own_bytes = sum(item.length for path, item in added.items() if path.startswith(f"bundles/{bundle}/"))
        return Written(descriptor, changed=True, new_bytes=own_bytes, content_sha256=content_of(made.index))

    def _shows(self, descriptor: Descriptor) -> bool:
        """Whether the documents that lie beside a bundle are those that are wanted now."""
        folder, listed = f"bundles/{descriptor.bundle}", self.publisher.listed()
        there = {path for path in listed if path.rpartition("/")[0] == folder}
        return there == {f"{folder}/{name}" for name in ("bundle.json", "index.age", *self.about.names)}


@dataclass(frozen=True)
class _Work:
    """The files of one bundle while they are made."""

    writer: BundleWriter
    folder: Path
    prefix: str
    identity: age.KeyIdentity
    draft: Index
    now: datetime

    def finish(
        self, captured: tuple[Captured, ...], surveyed: Sequence[Surveyed], earlier: Sequence[Earlier]
    ) -> Earlier:
        wanted = {piece.sha256: piece.length for item in surveyed for piece in item.pieces}
        reuse = choose(earlier, wanted, self.writer.unwanted)
        recipient, layer = self.identity.recipient, self.writer.layer
        volumes = VolumeWriter(self.folder, self.prefix, recipient, self.writer.volume_bytes, reuse, layer)
        total = total_bytes(captured)
        fresh = sum(length for sha256, length in wanted.items() if reuse.chunk(sha256) is None) if surveyed else total
        try:
            with self.writer.terminal.progress(f"encrypting {size(fresh)} of {size(total)}", total) as progress:
                if surveyed:
                    assets = tuple(volumes.add(item, progress.advance) for item in surveyed)
                else:
                    assets = self._in_one_pass(captured, volumes, progress.advance)
            used = volumes.close()
        finally:
            volumes.abandon()
        bundle = self.prefix.split("/")[1]
        service = with_digests(self.draft.service, {asset.path: asset.digests() for asset in assets})
        index = Index(self.draft.format, self.draft.repository, bundle, self.draft.profile, assets, service)
        return Earlier(self._described(index, used), index)

    def _in_one_pass(
        self, captured: Sequence[Captured], volumes: VolumeWriter, on_bytes: Callable[[int], None]
    ) -> tuple[Asset, ...]:
        read = [volumes.add_unseen(item, on_bytes) for item in captured]
        for _, found in read:
            self.writer.cache.keep(found)
        surveyed = [found for _, found in read]
        service = with_digests(self.draft.service, {item.captured.path: item.digests() for item in surveyed})
        content = content_of_surveyed(self.draft.profile, surveyed, service)
        read += [volumes.add_unseen(item, lambda _: None) for item in self.writer.about.inside(surveyed, content)]
        return tuple(asset for asset, _ in read)

    def _described(self, index: Index, volumes: tuple[Volume, ...]) -> Descriptor:
        sealed = age.encrypt(pad_document(encode_index(index)), [self.identity.recipient])
        write_atomic(self.folder / "index.age", sealed, layer=self.writer.layer)
        epoch, sequence = order_of(index.bundle)
        descriptor = Descriptor(
            format=FORMAT_VERSION,
            suite=age.suite_of(self.identity.recipient),
            repository=index.repository,
            bundle=index.bundle,
            epoch=epoch,
            sequence=sequence,
            made=self.now.isoformat(timespec="seconds"),
            recipient=str(self.identity.recipient),
            index=FileDigest(f"{self.prefix}/index.age", len(sealed), hashlib.sha256(sealed).hexdigest()),
            volumes=volumes,
        )
        write_atomic(self.folder / "bundle.json", encode_descriptor(descriptor), layer=self.writer.layer)
        return descriptor


def next_order(publisher: Publisher) -> tuple[int, int]:
    """Returns epoch and sequence of the next bundle: above every bundle that was ever signed here."""
    policy = publisher.policy()
    listed = [order_of(path.split("/")[1]) for path in publisher.listed() if path.endswith("/bundle.json")]
    sequences = [sequence for epoch, sequence in listed if epoch == policy.epoch]
    return policy.epoch, max([policy.min_sequence - 1, *sequences]) + 1


def targets_of(folder: Path, descriptor: Descriptor, beside: Mapping[str, bytes]) -> Mapping[str, TargetFile]:
    """Returns the targets of a bundle: its own files, what lies beside them, and the volumes of others that it uses."""
    own = f"bundles/{descriptor.bundle}"
    plain = {"bundle.json": (folder / own / "bundle.json").read_bytes(), **beside}
    files: list[FileDigest | Volume] = [descriptor.index, *descriptor.volumes]
    listed = {file.path: TargetFile(file.length_bytes, file.sha256) for file in files}
    told = {f"{own}/{name}": TargetFile(len(d), hashlib.sha256(d).hexdigest()) for name, d in plain.items()}
    return {**listed, **told}


def with_digests(service: Service, chunks: Mapping[str, Sequence[str]]) -> Service:
    """Returns the service with the digest of each model's asset, from the digests of its chunks by path."""
    models = tuple(replace(model, digest=content_digest(chunks[model.asset])) for model in service.models)
    return replace(service, models=models)


def _opened(folder: Path, descriptor: Descriptor, identities: Mapping[str, str]) -> Earlier:
    with open_bundle(folder, descriptor, identities) as bundle:
        return Earlier(descriptor, bundle.index)
