"""What earlier builds read: the chunk digests of files that have not changed since, so that they are not read again.

A file of this machine is taken for unchanged as git and restic do, by device, inode, size and both of its times. A
stale entry can at worst ship the bytes that an earlier bundle holds: whatever is encrypted anew is hashed again as
it is read. The digests lie in the builder's home and never on a medium.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bundler.files import read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json
from bundler.repository.survey import Captured, Piece, Stamp, Surveyed

_ENTRY_BYTES = 256 << 20
_LEAST_BYTES = 16 << 20  # smaller ones are read in no time
# A write within one tick of the clock after the hash would leave the same times ("racy git").
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class _Entry:
    """One file: how it looked, how it was cut, and the digest and length in bytes of each piece, in order."""

    look: str
    cut: str
    digests: tuple[str, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class SurveyCache:
    """Remembers surveys under `folder`; None remembers nothing."""

    folder: Path | None

    def known(self, captured: Captured) -> Surveyed | None:
        """Returns the survey of a file that an earlier build read and that has not changed, or None."""
        path = self._path(captured)
        if path is None:
            return None
        try:
            entry = from_json(_Entry, canonical.decode(read_limited(path, _ENTRY_BYTES), path.name), path.name)
        except (FileMissing, BadBundle):  # none yet, or one that an older version wrote: it is only a cache
            return None
        stamp = Stamp.of(captured.file.stat())
        if entry.look != _look(captured, stamp) or entry.cut != _cut(captured):
            return None
        offsets = accumulate(entry.lengths, initial=0)
        pieces = tuple(map(Piece, entry.digests, offsets, entry.lengths))
        return Surveyed(captured, stamp, pieces)

    def keep(self, surveyed: Surveyed) -> None:
        """Remembers what was read, where a later change would show."""
        captured, stamp = surveyed.captured, surveyed.stamp
        path = self._path(captured)
        settled = captured.sha256 or time.time_ns() - max(stamp.changed_ns, stamp.modified_ns) > _SETTLED_NS
        if path is None or stamp.length_bytes < _LEAST_BYTES or not settled:
            return
        lengths = tuple(piece.length for piece in surveyed.pieces)
        entry = _Entry(_look(captured, stamp), _cut(captured), surveyed.digests(), lengths)
        write_atomic(path, canonical.encode(to_json(entry)), mode=0o600)

    def _path(self, captured: Captured) -> Path | None:
        if self.folder is None:
            return None
        name = captured.sha256 or os.path.realpath(captured.file)
        return self.folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.json"


def _look(captured: Captured, stamp: Stamp) -> str:
    """What must be the same: the digest that the source told, or how the file looks."""
    return captured.sha256 or " ".join(str(value) for value in vars(stamp).values())


def _cut(captured: Captured) -> str:
    return hashlib.sha256(repr((captured.chunk_bytes, captured.cuts)).encode()).hexdigest()


NO_CACHE = SurveyCache(None)
