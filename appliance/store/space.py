"""How much room an install needs on the store's file system, computed before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bundler.format.errors import NoSpace
from bundler.terminal import size

# Of a file system's own records a file: its folder entry, and the blocks that list its extents.
_RECORD_BLOCKS = 4
# btrfs keeps 4 bytes of checksum for 4 KiB; ext4 and XFS need less for their extents.
_METADATA_SHARE = 1024
# For the version's record, the trust that is remembered, the journal, and what serves meanwhile.
RESERVE_BYTES = 16 * 1024 * 1024


def needed_bytes(lengths: Iterable[int], block_bytes: int) -> int:
    """Returns what files of these lengths take on a file system with blocks of that size, its records included."""
    return sum(_taken(length, block_bytes) for length in lengths)


def _taken(length: int, block_bytes: int) -> int:
    blocks = -(-length // block_bytes) + -(-length // (_METADATA_SHARE * block_bytes)) + _RECORD_BLOCKS
    return blocks * block_bytes


def check_space(store: Path, lengths: Iterable[int]) -> None:
    """Makes sure that files of these lengths fit into the store.

    Raises:
        NoSpace: They do not; the message has both figures, and nothing has been written.
    """
    lengths, found = tuple(lengths), os.statvfs(store)
    needed = needed_bytes(lengths, found.f_frsize) + RESERVE_BYTES if lengths else 0
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise NoSpace(
            f"{store} has {size(free)} free, the bundle needs {size(needed)} ({size(needed - free)} more)",
            "free some space or point --state at a larger disk; what an earlier run has copied is counted already",
        )
    # File systems that make their inodes as they need them (btrfs) state none.
    if found.f_files and len(lengths) > found.f_favail:
        raise NoSpace(
            f"{store} has {found.f_favail} inodes free, the bundle needs {len(lengths)}",
            "remove files there or point --state at a larger disk",
        )
