"""Copies a bundle from the medium into the store: one read of each file, hashed while it is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from bundler.files import FileLayer, open_regular, staged
from bundler.format import paths
from bundler.format.errors import BadBundle, FileMissing, NoSpace
from bundler.format.manifest import Descriptor, FileDigest

_BLOCK_BYTES = 1 << 20
# What the store needs beside the volumes: records, links, the file system's own slack.
_SLACK_BYTES = 16 * 1024 * 1024


def files_of(descriptor: Descriptor) -> tuple[FileDigest, ...]:
    """Returns the files that a bundle uses: its index and every volume."""
    volumes = (FileDigest(volume.path, volume.length_bytes, volume.sha256) for volume in descriptor.volumes)
    return (descriptor.index, *volumes)


def lacking(store: Path, files: Iterable[FileDigest]) -> list[FileDigest]:
    """Returns the files that the store does not hold as they were signed; the others are not read from the medium."""
    return [file for file in files if not _holds(store, file)]


def check_space(store: Path, needed: Iterable[FileDigest]) -> int:
    """Returns the bytes to be copied.

    Raises:
        NoSpace: They do not fit; nothing has been written.
    """
    total = sum(file.length_bytes for file in needed)
    free = shutil.disk_usage(store).free
    if total + _SLACK_BYTES > free:
        raise NoSpace(
            f"{store} has {free} bytes free, the bundle needs {total + _SLACK_BYTES}",
            "free some space or point --state at a larger disk",
        )
    return total


def copy_file(medium: Path, store: Path, file: FileDigest, on_bytes: Callable[[int], None], layer: FileLayer) -> None:
    """Copies one file; under its final name it is whole and has the signed digest.

    Raises:
        FileMissing: The medium does not hold it.
        BadBundle: Its bytes are not what was signed, or it cannot be read.
    """
    digest, length = hashlib.sha256(), 0
    try:
        source = open_regular(paths.inside(medium, file.path))
    except FileMissing:
        raise FileMissing(
            f"{file.path} is missing on the medium",
            "if this box never got it, the builder makes a full copy: lifeboat copy --full",
        ) from None
    with source, staged(store / file.path, mode=0o600, layer=layer) as out:
        while block := _read(source.fileno(), file.path):
            digest.update(block)
            length += len(block)
            out.write(block)
            on_bytes(len(block))
            if length > file.length_bytes:
                break
        if length != file.length_bytes or digest.hexdigest() != file.sha256:
            raise BadBundle(
                f"{file.path} is not what was signed ({_difference(file.length_bytes, length)})",
                "copy this file to the medium again",
            )


def _read(descriptor: int, path: str) -> bytes:
    try:
        return os.read(descriptor, _BLOCK_BYTES)
    except OSError as error:
        raise BadBundle(f"{path} cannot be read: {error.strerror}", "try another stick") from error


def _holds(store: Path, file: FileDigest) -> bool:
    """Hashes what lies here: a file that this disk damaged is copied again instead of failing for ever."""
    path = paths.inside(store, file.path)
    if not path.is_file() or path.stat().st_size != file.length_bytes:
        return False
    with path.open("rb") as found:
        return hashlib.file_digest(found, "sha256").hexdigest() == file.sha256


def _difference(expected: int, read: int) -> str:
    return "its bytes differ" if read == expected else f"{expected} bytes expected, {read} read"
