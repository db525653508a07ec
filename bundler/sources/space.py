"""Room on the disk, looked at before the first byte is fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

from bundler.format.errors import NoSpace
from bundler.terminal import size


def check_space(folder: Path, need_bytes: int) -> None:
    """Raises NoSpace where so many bytes do not fit any more."""
    free = shutil.disk_usage(folder).free
    if need_bytes > free:
        told = f"what comes needs {size(need_bytes)} ({size(need_bytes - free)} more)"
        raise NoSpace(f"{folder} has {size(free)} free, {told}", "free that much there, or see `lifeboat cache prune`")
