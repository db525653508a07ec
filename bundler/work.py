"""The builder's private work folder: one per build, closed to other users, wiped after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.files import scratch_folder


@contextmanager
def work_folder(home: Path) -> Iterator[Path]:
    """Yields a fresh folder under `home/work`; it is removed whatever happens, after a kill by the next build."""
    with scratch_folder(home / "work", "build-") as folder:
        yield folder
