"""Windows of 32 bytes that must not lie on a disk, drawn from what a box keeps secret, and the search for them.

The search looks at every offset of an image, so it finds what was deleted too. Two bytes of each window stand in a
table that is asked first, three of them in one that is asked then; what is left is compared whole.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

WINDOW_BYTES = 32
_BLOCK_BYTES = 1 << 18  # what a search makes of it stays in the processor's cache
_LEAST_DISTINCT = 12


def draw(data: bytes, count: int, rng: random.Random) -> list[bytes]:
    """Returns up to `count` windows at random offsets, without those that chance could write (zeros, repeats)."""
    last = len(data) - WINDOW_BYTES
    if last < 0:
        return []
    offsets = range(last + 1) if last < count else sorted(rng.sample(range(last + 1), count))
    windows = (data[offset : offset + WINDOW_BYTES] for offset in offsets)
    return [window for window in windows if len(set(window)) >= _LEAST_DISTINCT]


class Search:
    """Looks for windows.

    Args:
        windows: What kind of secret each is, by window.
    """

    def __init__(self, windows: Mapping[bytes, str]) -> None:
        self._windows = windows
        self._pairs, self._prefixes = np.zeros(1 << 16, dtype=bool), np.zeros(1 << 24, dtype=bool)
        for window in windows:
            self._pairs[int.from_bytes(window[:2], "little")] = True
            self._prefixes[int.from_bytes(window[:3], "little")] = True

    def file(self, path: Path) -> tuple[Counter[str], int]:
        """Returns how many windows of each kind lie in a file, and how many bytes of it were read: holes are not."""
        found: Counter[str] = Counter()
        read = 0
        with path.open("rb") as file:
            for start, end in _extents(file.fileno(), path.stat().st_size):
                for block in _blocks(file.fileno(), start, end):
                    found.update(self._windows[window] for window in self._in(block))
                read += end - start
        return found, read

    def _in(self, block: bytes) -> Iterator[bytes]:
        values = np.frombuffer(block, dtype=np.uint8)
        if len(values) < WINDOW_BYTES:
            return
        for place in (*self._places(block, values, 0), *self._places(block, values, 1)):
            window = block[place : place + WINDOW_BYTES]
            if window in self._windows:
                yield window

    def _places(self, block: bytes, values: npt.NDArray[np.uint8], odd: int) -> list[int]:
        """Returns the even or the odd offsets at which three bytes lie that a window begins with."""
        pairs = np.frombuffer(block, dtype="<u2", count=(len(block) - odd - 1) // 2, offset=odd)
        near = np.flatnonzero(self._pairs[pairs])
        third = values[2 * near + odd + 2].astype(np.uint32) << 16
        places: list[int] = (2 * near[self._prefixes[pairs[near] | third]] + odd).tolist()
        return places


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Yields overlapping blocks, so that no window is cut and none is seen twice."""
    while start < end:
        yield os.pread(descriptor, min(_BLOCK_BYTES + WINDOW_BYTES - 1, end - start), start)
        start += _BLOCK_BYTES


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yields the parts of a sparse file that were ever written (lseek(2), SEEK_DATA)."""
    at = 0
    while at < size:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            return
        end = os.lseek(descriptor, at, os.SEEK_HOLE)
        yield at, end
        at = end
