"""Where an asset is cut into chunks and where each chunk is put: pure, so the same input gives the same layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bundler.format.index import Chunk


def spans(length_bytes: int, cuts: Sequence[int], chunk_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields `(offset, length)` of each chunk: a chunk never crosses a cut, and none is longer than `chunk_bytes`.

    Args:
        length_bytes: Size of the asset.
        cuts: Offsets at which a chunk must begin (tensor starts); order and repeats do not matter.
        chunk_bytes: The longest chunk.
    """
    borders = sorted({0, length_bytes, *(cut for cut in cuts if 0 < cut < length_bytes)})
    for start, end in itertools.pairwise(borders):
        for offset in range(start, end, chunk_bytes):
            yield offset, min(chunk_bytes, end - offset)


def merged_cuts(starts: Sequence[int], least_bytes: int) -> tuple[int, ...]:
    """Drops cuts that would make chunks shorter than `least_bytes`: thousands of tiny tensors share a chunk."""
    kept: list[int] = []
    for start in sorted(starts):
        if not kept or start - kept[-1] >= least_bytes:
            kept.append(start)
    return tuple(kept)


@dataclass
class Placer:
    """Puts chunks into volumes in order; a chunk that is already placed is used again.

    Attributes:
        volume_bytes: Plaintext size of a full volume; no chunk crosses its end.
    """

    volume_bytes: int
    _places: dict[str, Chunk] = field(default_factory=dict)
    _volume: int = 0
    _used_bytes: int = 0

    def place(self, sha256: str, length: int) -> tuple[Chunk, bool]:
        """Returns the place of a chunk and whether it is new, which is when its bytes must be written."""
        known = self._places.get(sha256)
        if known is not None and known.length == length:
            return known, False
        if self._used_bytes and self._used_bytes + length > self.volume_bytes:
            self._volume, self._used_bytes = self._volume + 1, 0
        chunk = Chunk(sha256, self._volume, self._used_bytes, length)
        self._places[sha256] = chunk
        self._used_bytes += length
        return chunk, True
