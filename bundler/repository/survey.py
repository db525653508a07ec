"""What captured files consist of, before anything is written: the chunk digests that decide what is new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    """

    path: str
    file: Path
    kind: str
    licence: str
    source: str
    cuts: tuple[int, ...]
    chunk_bytes: int


@dataclass(frozen=True)
class Piece:
    """A chunk of a captured file that has no place yet: its SHA-256, and its stretch of the file in bytes."""

    sha256: str
    offset: int
    length: int


@dataclass(frozen=True)
class Surveyed:
    """A captured file with its digests: of the whole, and of each piece in order."""

    captured: Captured
    length_bytes: int
    sha256: str
    pieces: tuple[Piece, ...]


def survey(captured: Captured, on_bytes: Callable[[int], None]) -> Surveyed:
    """Reads a file once and hashes the whole beside its pieces; `on_bytes` hears the bytes read.

    Raises:
        BadInput: The file changed while it was read.
    """
    length, whole = captured.file.stat().st_size, hashlib.sha256()
    pieces: list[Piece] = []
    buffer = Buffer()
    with captured.file.open("rb", buffering=0) as file, ThreadPoolExecutor(1) as beside:
        for offset, piece_bytes in spans(length, captured.cuts, captured.chunk_bytes):
            data = buffer.read(file, offset, piece_bytes)
            if len(data) != piece_bytes:
                raise BadInput(f"{captured.source} changed while it was read")
            # Both hashes let go of the interpreter's lock: they run on two cores.
            own = beside.submit(hashlib.sha256, data)
            whole.update(data)
            pieces.append(Piece(own.result().hexdigest(), offset, piece_bytes))
            on_bytes(piece_bytes)
    return Surveyed(captured, length, whole.hexdigest(), tuple(pieces))


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
