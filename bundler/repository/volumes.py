"""Writes the volumes of a bundle: chunks deduplicated by plaintext digest, encrypted to the bundle's own identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bundler.files import DISK, FileLayer
from bundler.format import age
from bundler.format.chunking import Placer, spans
from bundler.format.errors import BadInput
from bundler.format.index import Asset, Chunk
from bundler.format.limits import VOLUME_BYTES_MAX
from bundler.format.manifest import Volume
from bundler.format.padding import padme


@dataclass(frozen=True)
class Captured:
    """A file that goes into the bundle, lying in the builder's work folder.

    Attributes:
        path: Its name inside the bundle.
        file: Where its plaintext lies.
        kind: One of `index.KINDS`.
        licence: SPDX identifier, or "".
        source: The pinned source.
        cuts: Offsets at which a chunk must begin.
        chunk_bytes: The longest chunk.
    """

    path: str
    file: Path
    kind: str
    licence: str
    source: str
    cuts: tuple[int, ...]
    chunk_bytes: int


class _HashingFile:
    """A file that hashes what is written to it: the ciphertext digest costs no second read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.length_bytes = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self.digest.update(data)
        self.length_bytes += len(data)
        return self._file.write(data)


class VolumeWriter:
    """Writes one bundle's volumes under `folder/vol/`; the caller renames the folder when the bundle is whole.

    Args:
        folder: The bundle's folder while it is being made.
        prefix: The bundle's path inside the repository, for the descriptor.
        recipient: The bundle's own age recipient.
        volume_bytes: Plaintext size of a full volume.
        layer: Where faults can be put.
    """

    def __init__(
        self, folder: Path, prefix: str, recipient: age.X25519Recipient, volume_bytes: int, layer: FileLayer = DISK
    ) -> None:
        if not 0 < volume_bytes <= VOLUME_BYTES_MAX:
            raise BadInput(f"volume size {volume_bytes} is not between 1 and {VOLUME_BYTES_MAX} bytes")
        self._folder, self._prefix, self._recipient, self._layer = folder, prefix, recipient, layer
        self._placer = Placer(volume_bytes)
        self._open: _OpenVolume | None = None
        self.volumes: list[Volume] = []

    def add(self, captured: Captured, on_bytes: Callable[[int], None]) -> Asset:
        """Writes the chunks of one asset that no volume holds yet; `on_bytes` hears the bytes read."""
        length = captured.file.stat().st_size
        whole, chunks = hashlib.sha256(), []
        with captured.file.open("rb") as file:
            for _, chunk_length in spans(length, captured.cuts, captured.chunk_bytes):
                data = file.read(chunk_length)
                if len(data) != chunk_length:
                    raise BadInput(f"{captured.source} changed while it was read")
                whole.update(data)
                chunks.append(self._put(data))
                on_bytes(chunk_length)
        return Asset(
            captured.path, captured.kind, length, whole.hexdigest(), captured.licence, captured.source, tuple(chunks)
        )

    def close(self) -> tuple[Volume, ...]:
        """Pads and closes the last volume; returns all of them in order."""
        if self._open is not None:
            self._finish(last=True)
        return tuple(self.volumes)

    def abandon(self) -> None:
        """Closes what is open; the caller removes the folder."""
        if self._open is not None:
            self._open.abandon()
            self._open = None

    def _put(self, data: bytes) -> Chunk:
        chunk, new = self._placer.place(hashlib.sha256(data).hexdigest(), len(data))
        if new:
            if self._open is not None and chunk.volume != len(self.volumes):
                self._finish(last=False)
            if self._open is None:
                self._open = _OpenVolume(self._folder, len(self.volumes) + 1, self._recipient, self._layer)
            self._open.write(data)
        return chunk

    def _finish(self, *, last: bool) -> None:
        if self._open is None:
            return
        opened, self._open = self._open, None
        length_bytes, sha256 = opened.close(self._padded_bytes(opened.used_bytes, last=last))
        path = f"{self._prefix}/vol/{opened.name}"
        self.volumes.append(Volume(path, length_bytes, sha256, str(self._recipient)))

    def _padded_bytes(self, used_bytes: int, *, last: bool) -> int:
        full = self._placer.volume_bytes
        return min(padme(used_bytes), max(full, used_bytes)) if last else max(full, used_bytes)


class _OpenVolume:
    """A volume while it is written: file, hash and cipher stacked."""

    def __init__(self, folder: Path, number: int, recipient: age.X25519Recipient, layer: FileLayer) -> None:
        self.name = f"{number:04d}.age"
        self.used_bytes = 0
        self._layer = layer
        (folder / "vol").mkdir(exist_ok=True)
        self._raw = layer.open_new(folder / "vol" / self.name, 0o644)
        self._file = _HashingFile(self._raw)
        self._writer = age.Writer(self._file, [recipient])

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        self.used_bytes += len(data)

    def close(self, padded_bytes: int) -> tuple[int, str]:
        """Pads with zeros and finishes the file; returns its ciphertext's length and SHA-256."""
        with self._raw:
            for block in _zeros(padded_bytes - self.used_bytes):
                self._writer.write(block)
            self._writer.close()
            self._layer.sync(self._raw)
        return self._file.length_bytes, self._file.digest.hexdigest()

    def abandon(self) -> None:
        """Closes the file unfinished: without its final piece it never authenticates."""
        self._raw.close()


def _zeros(length_bytes: int) -> Iterable[bytes]:
    block = bytes(1 << 20)
    for offset in range(0, length_bytes, len(block)):
        yield block[: min(len(block), length_bytes - offset)]


def total_bytes(captured: Sequence[Captured]) -> int:
    """Returns the plaintext bytes of all captured files."""
    return sum(item.file.stat().st_size for item in captured)
