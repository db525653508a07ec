"""Where vectors and JSON Lines are cut: between rows, at places that the rows themselves choose.

One more row in the middle moves all rows behind it. Pieces of a fixed size would all be new then; a cut that depends on
the row behind it alone moves along, so that only the pieces around the change are new (content-defined chunking, as in
Muthitacharoen et al., "A Low-bandwidth Network File System", SOSP 2001, on rows in place of bytes).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bundler.format.chunking import merged_cuts
from bundler.format.limits import KIB

# The mean length of a piece, and into how many a large file is cut: each is a line of the index, which always travels.
_LEAST_MEAN = {".npy": 32 * KIB, ".jsonl": 8 * KIB}
_MOST_PIECES = 1024
_BLOCK_BYTES = 1 << 20


def row_cuts(path: Path) -> tuple[int, ...]:
    """Returns the offsets at which pieces begin; none for a file that is neither `.npy` nor `.jsonl`.

    They depend on the file's bytes and on the power of two above its length, and on nothing else.
    """
    if path.suffix not in _LEAST_MEAN:
        return ()
    length = path.stat().st_size
    mean = max(_LEAST_MEAN[path.suffix], 1 << (length // _MOST_PIECES).bit_length())
    with path.open("rb") as file:
        rows = _array(file) if path.suffix == ".npy" else _lines(file)
        return merged_cuts([offset for offset in _chosen(rows, mean) if offset < length], mean // 4)


def _chosen(rows: Iterable[tuple[int, bytes]], mean: int) -> Iterator[int]:
    """Yields the offset of about every n-th row, so that a piece has the mean length: by the digest of the row."""
    for number, (offset, row) in enumerate(rows):
        if number == 0 or zlib.crc32(row) % max(1, mean // max(1, len(row))) == 0:
            yield offset


def _array(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields offset and bytes of each row; what lies before the first one, the header, changes with their number."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize
    if not row_bytes:
        return
    offset = file.tell()
    while block := file.read(max(1, _BLOCK_BYTES // row_bytes) * row_bytes):
        for start in range(0, len(block), row_bytes):
            yield offset + start, block[start : start + row_bytes]
        offset += len(block)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for line in file:
        yield offset, line
        offset += len(line)
