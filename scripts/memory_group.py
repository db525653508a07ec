"""A control group with little memory, below this process's own: what a small box has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def own_folder() -> Path:
    """Returns the folder of this process's group of memory, version 1 or 2."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return _ROOT / "memory" / path.lstrip("/")
    return _ROOT / next(path for _, controllers, path in lines if not controllers).lstrip("/")


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Makes such a group for the length of the block.

    Raises:
        OSError: This process may not make one, or the machine has none.
    """
    folder = own_folder() / f"lifeboat-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        names = [name for name in ("memory.max", "memory.limit_in_bytes") if (folder / name).exists()]
        if not names:
            raise OSError("control groups do not limit memory here")
        (folder / names[0]).write_text(str(limit_bytes))
        yield folder
    finally:
        for _ in range(100):  # the kernel lets go of a group some moments after its last process
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def inside(folder: Path, words: Sequence[str]) -> list[str]:
    """Returns a command line that runs another one in a group."""
    return ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", *words]
