"""A file that is being fetched: what a stopped pull left of it is hashed and kept, the rest is asked for.

It lies under a hidden name until its digest is right, as the disk returns it; then one rename gives it its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundler.files import FileLayer, make_folder, open_regular
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.trust.verify import TargetFile
from bundler.repository.oci.artifact import Blob, Stored
from bundler.repository.oci.client import Client
from bundler.repository.oci.streams import OnBytes

_BLOCK_BYTES = 1 << 20
PUSH_AGAIN = "its store is damaged, or somebody changed it: remove the artifact there and push again"


@dataclass(frozen=True)
class Partials:
    """The folder of unfinished files of a medium.

    Attributes:
        folder: On the same file system as the medium.
        layer: Where faults can be put.
    """

    folder: Path
    layer: FileLayer

    def path(self, file: Stored, target: TargetFile) -> Path:
        """Where a file lies while it is fetched: another name for other bytes, and for the same bytes elsewhere."""
        return self.folder / f"{hashlib.sha256(f'{file.path} {target.sha256}'.encode()).hexdigest()[:32]}.part"

    def keep(self, wanted: Collection[Path]) -> None:
        """Removes what a pull of another state left."""
        for path in set(self.folder.glob("*")) - set(wanted):
            self.layer.remove(path)

    def held(self, file: Stored, target: TargetFile) -> int:
        """Returns how many bytes of a file lie here."""
        with suppress(OSError):
            return min(self.path(file, target).lstat().st_size, file.length_bytes)
        return 0

    def fetch(self, client: Client, file: Stored, target: TargetFile, final: Path, on_bytes: OnBytes) -> int:
        """Fetches a file and gives it its name.

        Args:
            client: Of the registry.
            file: Its blobs.
            target: What it must be.
            final: Its name.
            on_bytes: Told of every byte, those that were here before too.

        Returns:
            The bytes that came from the registry.

        Raises:
            BadBundle: The registry gives other bytes, or the disk does; nothing of them is kept.
            SourceFailed: It does not give them; what came is kept.
        """
        path = self.path(file, target)
        with self._opened(path) as out:
            came = start = 0
            for blob in file.blobs:
                came += _fetch_blob(client, blob, out, start, on_bytes)
                start += blob.length_bytes
            out.truncate(start)
            self.layer.sync(out)
        if not _reads_back(path, target, on_bytes):
            path.unlink()
            raise BadBundle(
                f"{file.path} is not what was signed: its parts in the registry are not those of the file, or the disk "
                "does not return what was written to it",
                "run the same command again; if it happens twice, push again, or use another disk",
            )
        make_folder(final.parent, self.layer)
        self.layer.rename(path, final)
        self.layer.sync_folder(final.parent)
        return came

    @contextmanager
    def _opened(self, path: Path) -> Iterator[BinaryIO]:
        try:
            with open_regular(path):
                pass
        except FileMissing:
            with self.layer.open_new(path, 0o644):
                pass
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+b") as out:
            yield out


def _fetch_blob(client: Client, blob: Blob, out: BinaryIO, start: int, on_bytes: OnBytes) -> int:
    """Completes one blob at `start`; returns the bytes that came."""
    for have in (max(0, min(out.seek(0, os.SEEK_END) - start, blob.length_bytes)), 0):
        digest, came = hashlib.sha256(), 0
        out.seek(start)
        for block in _here(out, have):
            digest.update(block)
            on_bytes(len(block))
        for block in client.read(blob, have):
            out.write(block)
            digest.update(block)
            came += len(block)
            on_bytes(len(block))
        if f"sha256:{digest.hexdigest()}" == blob.digest:
            return came
        out.truncate(start)
        if not have:  # else what lay here may be what a disk lost in a power cut
            break
    raise BadBundle(f"the registry gives other bytes than those of {blob.digest}", PUSH_AGAIN)


def _here(out: BinaryIO, left: int) -> Iterator[bytes]:
    while left and (block := out.read(min(left, _BLOCK_BYTES))):
        left -= len(block)
        yield block


def _reads_back(path: Path, target: TargetFile, on_bytes: OnBytes) -> bool:
    """Reads from the disk and not from memory, which would repeat what was written and not what is there."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest() == target.sha256
