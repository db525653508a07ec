"""What captured files consist of, before anything is written: the chunk digests that decide what is new."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from bundler.format.chunking import spans
from bundler.format.errors import BadInput


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
        sha256: Digest of the whole where its source told it, else "".
    """

    path: str
    file: Path
    kind: str
    licence: str
    source: str
    cuts: tuple[int, ...]
    chunk_bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Piece:
    """A chunk of a captured file that has no place yet: its SHA-256, and its stretch of the file in bytes."""

    sha256: str
    offset: int
    length: int


@dataclass(frozen=True)
class Stamp:
    """How a file looks from outside: an edit changes at least one of these."""

    device: int
    inode: int
    length_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Surveyed:
    """A captured file as it looked, with the digest of each piece in order."""

    captured: Captured
    stamp: Stamp
    pieces: tuple[Piece, ...]

    def digests(self) -> tuple[str, ...]:
        """Returns the digests of its pieces, as `Asset.digests` does."""
        return tuple(piece.sha256 for piece in self.pieces)

    @property
    def sha256(self) -> str:
        """Digest of the whole where it is known, else "": one more hash would cost a quarter of the build's time."""
        return self.pieces[0].sha256 if len(self.pieces) == 1 else self.captured.sha256


def survey(captured: Captured, on_bytes: Callable[[int], None]) -> Surveyed:
    """Reads a file once and hashes its pieces; `on_bytes` hears the bytes read.

    Raises:
        BadInput: The file changed while it was read.
    """
    with Reading(captured) as reading:
        for piece, _ in reading.pieces():
            on_bytes(piece.length)
        return reading.surveyed()


class Reading:
    """One pass over a captured file: each piece with its bytes, and in the end the digests of all.

    The next piece is read and hashed while the caller has the one before: hashes let go of the interpreter's lock, so
    that hashing and whatever the caller does share the cores.
    """

    def __init__(self, captured: Captured) -> None:
        self._captured = captured
        self._stamp = Stamp.of(captured.file.stat())
        self._pieces: list[Piece] = []
        # Fetching hashed it, or a signature was checked: what lies outside our own folders may be another file by now.
        held = captured.sha256 and captured.source.startswith("file:")
        self._whole = hashlib.sha256() if held else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="survey")

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def pieces(self) -> Iterator[tuple[Piece, memoryview]]:
        """Yields each piece; its bytes are valid until the next one is asked for."""
        buffers = deque((Buffer(), Buffer()))
        ahead: tuple[int, memoryview, Future[str]] | None = None
        with self._captured.file.open("rb", buffering=0) as file:
            for offset, length in spans(self._stamp.length_bytes, self._captured.cuts, self._captured.chunk_bytes):
                buffers.rotate()
                data = buffers[0].read(file, offset, length)
                if len(data) != length:
                    raise BadInput(f"{self._captured.source} changed while it was read")
                digest = self._thread.submit(self._hash, data)
                if ahead is not None:
                    yield self._take(*ahead)
                ahead = offset, data, digest
            if ahead is not None:
                yield self._take(*ahead)

    def surveyed(self) -> Surveyed:
        """Returns what was read, once all pieces were.

        Raises:
            BadInput: The file changed while it was read.
        """
        other = self._whole is not None and self._whole.hexdigest() != self._captured.sha256
        if other or Stamp.of(self._captured.file.stat()) != self._stamp:
            raise BadInput(f"{self._captured.source} changed while it was read")
        return Surveyed(self._captured, self._stamp, tuple(self._pieces))

    def _hash(self, data: memoryview) -> str:
        if self._whole is not None:  # one thread, so the pieces come in order
            self._whole.update(data)
        return hashlib.sha256(data).hexdigest()

    def _take(self, offset: int, data: memoryview, digest: Future[str]) -> tuple[Piece, memoryview]:
        piece = Piece(digest.result(), offset, len(data))
        self._pieces.append(piece)
        return piece, data


class Buffer:
    """Memory that is read into again and again: fresh pages cost more than the hash."""

    def __init__(self) -> None:
        self._data = bytearray()

    def read(self, file: FileIO, offset: int, length: int) -> memoryview:
        """Returns bytes of the file, fewer at its end; they are valid until the next call."""
        if len(self._data) < length:
            self._data = bytearray(length)
        view, done = memoryview(self._data)[:length], 0
        file.seek(offset)
        while done < length and (count := file.readinto(view[done:])):
            done += count
        return view[:done]


def total_bytes(captured: tuple[Captured, ...]) -> int:
    """Returns the plaintext bytes of all captured files."""
    return sum(item.file.stat().st_size for item in captured)
