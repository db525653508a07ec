"""Paces what commands read from a disk, in the kernel (cgroup blkio or io; needs root), and empties its file cache."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_V1, _V2 = Path("/sys/fs/cgroup/blkio"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Paced:
    """A group of processes whose reads of one disk have a limit.

    Attributes:
        group: The control group.
        first: Whether they come before all others on the processor: on a machine that others use, both sides of a
            comparison are then measured and not the waiting.
    """

    group: Path
    first: bool

    def run(self, command: Sequence[str]) -> tuple[float, str]:
        """Runs a command in the group; returns its seconds and what it prints."""
        ahead = ["chrt", "-f", "1"] if self.first else []
        whole = ["sh", "-c", f'echo $$ > {self.group}/cgroup.procs && exec "$@"', "sh", *ahead, *command]
        began = time.monotonic()
        done = subprocess.run(whole, check=True, stdout=subprocess.PIPE, text=True)
        return time.monotonic() - began, done.stdout


@contextmanager
def paced(folder: Path, bytes_s: int, *, first: bool = False) -> Iterator[Paced]:
    """Yields a group that reads at most `bytes_s` from the disk that holds `folder`; 0 is no limit."""
    disk = _disk(folder)
    old = _V1.is_dir()
    group = (_V1 if old else _V2) / f"lifeboat-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise SystemExit(f"reads cannot be paced here: {error}") from error
    try:
        if old:
            (group / "blkio.throttle.read_bps_device").write_text(f"{disk} {bytes_s}")
        else:
            (group / "io.max").write_text(f"{disk} rbps={bytes_s or 'max'}")
        yield Paced(group, first)
    finally:
        group.rmdir()


def _disk(folder: Path) -> str:
    """Returns MAJOR:MINOR of the whole disk under a folder: a partition has no limit of its own."""
    device = folder.stat().st_dev
    found = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    return ((found.parent if (found / "partition").exists() else found) / "dev").read_text().strip()


def forget(files: Iterable[Path]) -> int:
    """Empties the cache of files, which are synced first; returns their bytes."""
    total = 0
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            total += path.stat().st_size
    return total
