"""What captured files consist of, before anything is written: the chunk digests that decide what is new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    with ThreadPoolExecutor(1) as beside:
        for offset, data in read_pieces(captured, length):
            # Both hashes let go of the interpreter's lock: they run on two cores.
            own = beside.submit(hashlib.sha256, data)
            whole.update(data)
            pieces.append(Piece(own.result().hexdigest(), offset, len(data)))
            on_bytes(len(data))
    return Surveyed(captured, length, whole.hexdigest(), tuple(pieces))


def read_pieces(captured: Captured, length: int) -> Iterator[tuple[int, bytes]]:
    """Yields offset and bytes of each piece; raises BadInput if the file is not `length` bytes long any more."""
    with captured.file.open("rb", buffering=0) as file:
        for offset, piece_bytes in spans(length, captured.cuts, captured.chunk_bytes):
            data = file.read(piece_bytes)
            if len(data) != piece_bytes:
                raise BadInput(f"{captured.source} changed while it was read")
            yield offset, data


def total_bytes(captured: tuple[Captured, ...]) -> int:
    """Returns the plaintext bytes of all captured files."""
    return sum(item.file.stat().st_size for item in captured)
