"""Takes a bundle's files into the store in one pass: read once, hashed, written and checked at the same time.

Order of trust: the index is hashed whole before it is opened. Of a volume only the age header is parsed before its hash
is known; its chunks are decrypted and compared with the digests in the index while it is copied, and it gets its final
name only when both hold. So under its final name a volume is whole, and an install that was stopped goes on behind it.

Memory: `medium.BLOCKS` blocks read ahead, and two pieces of 64 KiB for the check.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.store.alongside import EarlySync, Follower
from appliance.store.finished import Finished, FinishedVolumes
from appliance.store.medium import Opener, ReadAhead, wrong_content
from appliance.store.space import check_space
from bundler.files import FileLayer, open_regular, staged
from bundler.format import paths
from bundler.format.bundle import Bundle, open_bundle
from bundler.format.errors import BadBundle, LifeboatError, WrongKey
from bundler.format.manifest import Descriptor, FileDigest, Volume
from bundler.format.passage import Passage, passages

OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class Part:
    """A volume to be taken in, and what is to be found in it."""

    file: FileDigest
    passage: Passage

    @property
    def finished(self) -> Finished:
        return Finished(self.file.sha256, self.passage.stamp())


@dataclass(frozen=True)
class Plan:
    """What is to be done with each volume of a bundle.

    Attributes:
        copy: Not in the store.
        check: In the store, but nobody noted that it is whole and holds these chunks.
        trusted: Finished before; read again only if something fails.
    """

    copy: tuple[Part, ...]
    check: tuple[Part, ...]
    trusted: tuple[Part, ...]

    def doubted(self) -> Plan:
        """Returns what is to be done where something failed: those that were trusted are read."""
        return Plan((), self.trusted, ())

    @property
    def work_bytes(self) -> int:
        return sum(part.file.length_bytes for part in (*self.copy, *self.check))


@dataclass(frozen=True)
class Intake:
    """Takes files from a medium into a store.

    Attributes:
        medium: The repository on the medium.
        store: The repository of this box.
        finished: What is known of the store.
        layer: Where faults can be put.
        open_file: Opens a file of the medium.
    """

    medium: Path
    store: Path
    finished: FinishedVolumes
    layer: FileLayer
    open_file: Opener = open_regular

    def open(self, descriptor: Descriptor, identities: Mapping[str, str]) -> tuple[Bundle, int]:
        """Makes sure that all fits, takes the index, and opens it; returns the bytes that were copied too.

        Raises:
            NoSpace: It does not fit; nothing has been written.
            WrongKey: No identity for the bundle, or for one of its volumes; nothing has been written.
            FileMissing, BadBundle, SystemFailed: The medium's index is refused.
        """
        for recipient in (descriptor.recipient, *(volume.recipient for volume in descriptor.volumes)):
            if recipient not in identities:
                hint = "the builder must authorise this site"
                raise WrongKey(f"no key of this site opens all of bundle {descriptor.bundle}", hint)
        index = descriptor.index
        lacking = [volume.length_bytes for volume in descriptor.volumes if not _lies_here(self.store, volume)]
        index_bytes = 0 if self._holds(index) else index.length_bytes
        check_space(self.store, [*lacking, index_bytes] if index_bytes else lacking)
        if index_bytes:
            with ReadAhead(self.medium, [index], self.open_file) as ahead:
                self._copy_index(ahead.blocks(), index)
        return open_bundle(self.store, descriptor, identities), index_bytes

    def plan(self, bundle: Bundle, *, trusting: bool = True) -> Plan:
        """Decides for each volume; without trust every volume that lies here is read once more."""
        copy, check, trusted = [], [], []
        for passage in passages(bundle.descriptor.volumes, bundle.index.assets):
            volume = passage.volume
            part = Part(FileDigest(volume.path, volume.length_bytes, volume.sha256), passage)
            if not _lies_here(self.store, part.file):
                copy.append(part)
            elif trusting and self.finished.says(volume.path, part.finished):
                trusted.append(part)
            else:
                check.append(part)
        return Plan(tuple(copy), tuple(check), tuple(trusted))

    def take(self, plan: Plan, identities: Mapping[str, str], on_bytes: OnBytes) -> int:
        """Brings all volumes of a plan into the store; returns the bytes that were copied.

        A volume that lies here damaged is copied like one that does not: a disk's fault blocks no install for ever.

        Raises:
            NoSpace, FileMissing, BadBundle, SystemFailed: As for the index; finished volumes stay.
        """
        damaged = tuple(self._damaged(plan.check, identities, on_bytes))
        if damaged:
            check_space(self.store, [part.file.length_bytes for part in (*plan.copy, *damaged)])
        needed = (*plan.copy, *damaged)
        with ReadAhead(self.medium, [part.file for part in needed], self.open_file) as ahead:
            for part in needed:
                self._copy(ahead.blocks(), part, identities[part.passage.volume.recipient], on_bytes)
                self.finished.note(part.file.path, part.finished)
        return sum(part.file.length_bytes for part in needed)

    def _damaged(self, parts: Sequence[Part], identities: Mapping[str, str], on_bytes: OnBytes) -> Iterator[Part]:
        """Reads volumes that lie in the store once; yields those that are not what was signed."""
        for part in parts:
            follower = self._read_here(part, identities[part.passage.volume.recipient], on_bytes)
            if follower is None:
                self.finished.forget(part.file.path)
                yield part
            else:
                follower.result()
                self.finished.note(part.file.path, part.finished)

    def _read_here(self, part: Part, secret: str, on_bytes: OnBytes) -> Follower | None:
        """Returns the check of a volume that lies here whole, or None where its bytes are others or cannot be read."""
        path, on_length = paths.inside(self.store, part.file.path), _lengths(on_bytes)
        try:
            with (
                ReadAhead(self.store, [part.file], told=_as_it_is) as ahead,
                open_regular(path) as file,
                Follower(file, part.passage, secret) as follower,
            ):
                found = _pass(ahead.blocks(), part.file, (follower.grew, on_length))
        except (OSError, BadBundle):  # a bad block of this disk, or something else under this name
            return None
        return follower if found == (part.file.length_bytes, part.file.sha256) else None

    def _copy(self, blocks: Iterator[memoryview], part: Part, secret: str, on_bytes: OnBytes) -> None:
        with staged(self.store / part.file.path, mode=0o600, layer=self.layer) as out:
            on_length = _lengths(on_bytes)
            with EarlySync(out, self.layer) as early, Follower(out, part.passage, secret) as follower:
                found = _pass(blocks, part.file, (early.write, follower.grew, on_length))
            # The hash first: what the medium damaged is not the builder's fault.
            if found != (part.file.length_bytes, part.file.sha256):
                raise wrong_content(part.file, found[0])
            follower.result()

    def _copy_index(self, blocks: Iterator[memoryview], index: FileDigest) -> None:
        with staged(self.store / index.path, mode=0o600, layer=self.layer) as out:
            found = _pass(blocks, index, (out.write,))
            if found != (index.length_bytes, index.sha256):
                raise wrong_content(index, found[0])

    def _holds(self, index: FileDigest) -> bool:
        if not _lies_here(self.store, index):
            return False
        with paths.inside(self.store, index.path).open("rb") as found:
            return hashlib.file_digest(found, "sha256").hexdigest() == index.sha256


def lie_here(store: Path, descriptor: Descriptor) -> bool:
    """Says whether all files of a bundle lie in a store, by their names and lengths."""
    return all(_lies_here(store, file) for file in files_of(descriptor))


def files_of(descriptor: Descriptor) -> tuple[FileDigest | Volume, ...]:
    """Returns the files that a bundle uses: its index and every volume."""
    return (descriptor.index, *descriptor.volumes)


def _lies_here(store: Path, file: FileDigest | Volume) -> bool:
    path = paths.inside(store, file.path)
    return path.is_file() and path.stat().st_size == file.length_bytes


def _pass(
    blocks: Iterator[memoryview], file: FileDigest, takers: Sequence[Callable[[memoryview], object]]
) -> tuple[int, str]:
    """Hands each block to all takers; returns length and SHA-256 of what there was, at most a block too much."""
    digest, length = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        for take in takers:
            take(block)
        length += len(block)
        if length > file.length_bytes:
            break
    return length, digest.hexdigest()


def _lengths(on_bytes: OnBytes) -> Callable[[memoryview], None]:
    return lambda block: on_bytes(len(block))


def _as_it_is(error: LifeboatError | OSError, _root: Path, _file: FileDigest) -> Exception:
    return error
