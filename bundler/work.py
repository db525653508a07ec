"""The builder's private work folder: one per build, closed to other users, wiped after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def work_folder(home: Path) -> Iterator[Path]:
    """Yields a fresh folder under `home/work`; it is removed whatever happens."""
    parent = home / "work"
    parent.mkdir(parents=True, exist_ok=True)
    parent.chmod(0o700)
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
