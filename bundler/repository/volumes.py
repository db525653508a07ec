"""Writes a bundle's own volumes: the chunks that no earlier volume holds, encrypted to the bundle's own identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path

from bundler.files import DISK, FileLayer
from bundler.format import age
from bundler.format.chunking import Placer
from bundler.format.errors import BadInput
from bundler.format.index import Asset, Chunk
from bundler.format.limits import VOLUME_BYTES_MAX
from bundler.format.manifest import Volume
from bundler.format.padding import padme
from bundler.repository.outlet import Outlet
from bundler.repository.reuse import NOTHING, Reuse
from bundler.repository.survey import Buffer, Captured, Piece, Reading, Surveyed


class VolumeWriter:
    """Writes one bundle's volumes under `folder/vol/`; the caller renames the folder when the bundle is whole.

    Args:
        folder: The bundle's folder while it is being made.
        prefix: The bundle's path inside the repository, for the descriptor.
        recipient: The bundle's own age recipient.
        volume_bytes: Plaintext size of a full volume.
        reuse: Volumes of earlier bundles that hold some of what is wanted.
        layer: Where faults can be put.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str,
        recipient: age.KeyRecipient,
        volume_bytes: int,
        reuse: Reuse = NOTHING,
        layer: FileLayer = DISK,
    ) -> None:
        if not 0 < volume_bytes <= VOLUME_BYTES_MAX:
            raise BadInput(f"volume size {volume_bytes} is not between 1 and {VOLUME_BYTES_MAX} bytes")
        self._folder, self._prefix, self._recipient, self._layer = folder, prefix, recipient, layer
        self._reuse = reuse
        self._placer = Placer(volume_bytes)
        self._open: _OpenVolume | None = None
        self._own: list[Volume] = []
        self._buffer = Buffer()

    def add(self, surveyed: Surveyed, on_bytes: Callable[[int], None]) -> Asset:
        """Writes the pieces of one asset that no volume holds yet; `on_bytes` hears the bytes of all.

        Raises:
            BadInput: The file is not what was surveyed.
        """
        chunks = []
        with surveyed.captured.file.open("rb", buffering=0) as file:
            for piece in surveyed.pieces:
                chunk = self._reuse.chunk(piece.sha256)
                if chunk is None:
                    chunk, new = self._place(piece)
                    if new:
                        self._append(chunk, self._again(surveyed, piece, file))
                chunks.append(chunk)
                on_bytes(piece.length)
        return _asset(surveyed, chunks)

    def add_unseen(self, captured: Captured, on_bytes: Callable[[int], None]) -> tuple[Asset, Surveyed]:
        """The same for a file that was not surveyed, in one pass: for a bundle with nothing to use again."""
        chunks = []
        with Reading(captured) as reading:
            for piece, data in reading.pieces():
                chunk, new = self._place(piece)
                if new:
                    self._append(chunk, data)
                chunks.append(chunk)
                on_bytes(piece.length)
            surveyed = reading.surveyed()
            return _asset(surveyed, chunks), surveyed

    def close(self) -> tuple[Volume, ...]:
        """Pads and closes the last volume; returns all of them in order."""
        if self._open is not None:
            self._finish(last=True)
        return (*self._reuse.volumes, *self._own)

    def abandon(self) -> None:
        """Closes what is open; the caller removes the folder."""
        if self._open is not None:
            self._open.abandon()
            self._open = None

    def _place(self, piece: Piece) -> tuple[Chunk, bool]:
        """Returns the place of a piece in the descriptor's volumes, and whether it is new."""
        chunk, new = self._placer.place(piece.sha256, piece.length)
        return replace(chunk, volume=len(self._reuse.volumes) + chunk.volume), new

    def _append(self, chunk: Chunk, data: memoryview) -> None:
        number = chunk.volume - len(self._reuse.volumes)
        if self._open is not None and number != len(self._own):
            self._finish(last=False)
        if self._open is None:
            self._open = _OpenVolume(self._folder, len(self._own) + 1, self._recipient, self._layer)
        self._open.write(data)

    def _again(self, surveyed: Surveyed, piece: Piece, file: FileIO) -> memoryview:
        data = self._buffer.read(file, piece.offset, piece.length)
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise BadInput(f"{surveyed.captured.source} changed while it was read")
        return data

    def _finish(self, *, last: bool) -> None:
        if self._open is None:
            return
        opened = self._open
        length_bytes, sha256 = opened.close(self._padded_bytes(opened.used_bytes, last=last))
        self._open = None
        path = f"{self._prefix}/vol/{opened.name}"
        self._own.append(Volume(path, length_bytes, sha256, str(self._recipient)))

    def _padded_bytes(self, used_bytes: int, *, last: bool) -> int:
        full = self._placer.volume_bytes
        return min(padme(used_bytes), max(full, used_bytes)) if last else max(full, used_bytes)


def _asset(surveyed: Surveyed, chunks: Sequence[Chunk]) -> Asset:
    captured = surveyed.captured
    return Asset(
        path=captured.path,
        kind=captured.kind,
        length_bytes=surveyed.stamp.length_bytes,
        sha256=surveyed.sha256,
        licence=captured.licence,
        source=captured.source,
        chunks=tuple(chunks),
    )


class _OpenVolume:
    """A volume while it is written: file, hash and cipher stacked."""

    def __init__(self, folder: Path, number: int, recipient: age.KeyRecipient, layer: FileLayer) -> None:
        self.name = f"{number:04d}.age"
        self.used_bytes = 0
        self._layer = layer
        (folder / "vol").mkdir(exist_ok=True)
        self._raw = layer.open_new(folder / "vol" / self.name, 0o644)
        self._outlet = Outlet(self._raw, layer)
        self._writer = age.Writer(self._outlet, [recipient])

    def write(self, data: memoryview) -> None:
        self._writer.write(data)
        self.used_bytes += len(data)

    def close(self, padded_bytes: int) -> tuple[int, str]:
        """Pads with zeros and finishes the file; returns its ciphertext's length and SHA-256."""
        for block in _zeros(padded_bytes - self.used_bytes):
            self._writer.write(block)
        self._writer.close()
        digest = self._outlet.finish()
        self._layer.sync(self._raw)
        self._raw.close()
        return self._outlet.length_bytes, digest

    def abandon(self) -> None:
        """Closes the file unfinished: without its final piece it never authenticates."""
        self._outlet.abandon()
        self._raw.close()


def _zeros(length_bytes: int) -> Iterable[bytes]:
    block = bytes(1 << 20)
    for offset in range(0, length_bytes, len(block)):
        yield block[: min(len(block), length_bytes - offset)]
