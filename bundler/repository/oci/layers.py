"""How files of a repository become layers: whole where they are small, else in parts, whose digests are kept.

What is signed is the digest of a whole file. Parts are hashed once; the builder's home keeps their digests, so that the
next push need not read volumes that the registry holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import IO, BinaryIO, cast

from bundler.files import DISK, FileLayer, open_regular, read_limited, write_atomic
from bundler.format import canonical, paths
from bundler.format.errors import BadBundle
from bundler.format.limits import MIB
from bundler.format.record import from_json, to_json
from bundler.repository.oci.artifact import Blob, Stored, part_lengths
from bundler.repository.selection import Selected
from bundler.terminal import disk_error

_BLOCK_BYTES = 1 << 20
_FORMAT = 1


@dataclass(frozen=True)
class Layer:
    """A blob, and where in which file its bytes lie."""

    blob: Blob
    path: Path
    start: int
    name: str


@dataclass(frozen=True)
class _Known:
    """What is kept of a file's parts."""

    format: int
    digests: tuple[str, ...]


class Parts:
    """Digests of the parts of files, kept in the builder's home.

    Args:
        folder: Where; made where it is not there.
        cap: Of a layer, in bytes, whole MiB.
        layer: Where faults can be put.
    """

    def __init__(self, folder: Path, cap: int, layer: FileLayer = DISK) -> None:
        self._folder, self._cap, self._layer = folder, cap, layer

    def of(self, repository: Path, file: Selected, on_bytes: Callable[[int], None]) -> Stored:
        """Returns the blobs of a file; it is read only where its parts are not known.

        Raises:
            BadBundle: It is not what was signed.
        """
        lengths = part_lengths(file.target.length, self._cap)
        if len(lengths) == 1:
            on_bytes(file.target.length)
            return Stored(file.path, (Blob(f"sha256:{file.target.sha256}", file.target.length),))
        kept = self._folder / f"{file.target.sha256}-{self._cap // MIB}.json"
        digests = self._kept(kept, len(lengths))
        if digests:
            on_bytes(file.target.length)
        else:
            digests = _hashed(repository, file, lengths, on_bytes)
            write_atomic(kept, canonical.encode(to_json(_Known(_FORMAT, digests))), layer=self._layer)
        return Stored(file.path, tuple(Blob(*item) for item in zip(digests, lengths, strict=True)))

    def _kept(self, path: Path, count: int) -> tuple[str, ...]:
        try:
            found = from_json(_Known, canonical.decode(read_limited(path, MIB), path.name), path.name)
        except BadBundle:  # not there, or damaged: it is made anew
            return ()
        return found.digests if (found.format, len(found.digests)) == (_FORMAT, count) else ()


def layers(repository: Path, files: list[Stored]) -> list[Layer]:
    """Returns every distinct blob once, in order, with the place of its bytes."""
    found: dict[str, Layer] = {}
    for file in files:
        start = 0
        for blob in file.blobs:
            found.setdefault(blob.digest, Layer(blob, repository, start, file.path))
            start += blob.length_bytes
    return list(found.values())


@contextmanager
def opened(layer: Layer, on_bytes: Callable[[int], None]) -> Iterator[IO[bytes]]:
    """Opens the bytes of a layer; they are hashed as they go.

    Raises:
        BadBundle: At the end of the block, where other bytes were read than the digest names.
    """
    with open_regular(paths.inside(layer.path, layer.name)) as file:
        file.seek(layer.start)
        with closing(_Slice(file, layer, on_bytes)) as body:
            try:
                yield cast("IO[bytes]", body)
            finally:  # also where the registry refuses it: the fault is here, and this says which file
                if not body.left and f"sha256:{body.digest.hexdigest()}" != layer.blob.digest:
                    raise _not_signed(layer.name)


class _Slice(RawIOBase):
    """The bytes of a layer."""

    def __init__(self, file: BinaryIO, layer: Layer, on_bytes: Callable[[int], None]) -> None:
        self._file, self._name, self._on_bytes = file, layer.name, on_bytes
        self.left, self.digest = layer.blob.length_bytes, hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        try:
            block = self._file.read(min(self.left, size if size >= 0 else self.left, _BLOCK_BYTES))
        except OSError as error:  # not to be taken for a fault of the network
            raise disk_error(error) from error
        if self.left and not block:
            raise _not_signed(self._name)
        self.left -= len(block)
        self.digest.update(block)
        self._on_bytes(len(block))
        return block


def _hashed(repository: Path, file: Selected, lengths: list[int], on_bytes: Callable[[int], None]) -> tuple[str, ...]:
    whole, digests = hashlib.sha256(), []
    with open_regular(paths.inside(repository, file.path)) as source:
        for length in lengths:
            part, left = hashlib.sha256(), length
            while left and (block := source.read(min(left, _BLOCK_BYTES))):
                part.update(block)
                whole.update(block)
                left -= len(block)
                on_bytes(len(block))
            digests.append(f"sha256:{part.hexdigest()}")
    if whole.hexdigest() != file.target.sha256:
        raise _not_signed(file.path)
    return tuple(digests)


def _not_signed(path: str) -> BadBundle:
    return BadBundle(f"{path} in the repository is not what was signed", "restore the repository")
