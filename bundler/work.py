"""The builder's private folders: one per build, wiped after it, and the cache between builds; both closed to others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.files import no_scratch, scratch_folder
from bundler.format.errors import BadInput

_PREFIX = "build-"


@contextmanager
def work_folder(home: Path) -> Iterator[Path]:
    """Yields a fresh folder under `home/work`; it is removed whatever happens, after a kill by the next build.

    Raises:
        BadInput: `home/work` is a link: what a build unpacks would lie where nobody looks, or on a share.
    """
    with scratch_folder(_parent(home), _PREFIX) as folder:
        yield folder


@contextmanager
def no_build(home: Path) -> Iterator[None]:
    """Keeps builds of a home from beginning for the length of the block.

    Raises:
        Busy: One is at work.
        BadInput: As `work_folder`.
    """
    with no_scratch(_parent(home), _PREFIX, "a build of this home is at work"):
        yield


def private_cache(home: Path) -> Path:
    """Returns `home/cache`, closed to other users: it tells what an MSP's customers use."""
    folder = home / "cache"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _parent(home: Path) -> Path:
    parent = home / "work"
    if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
        raise BadInput(f"{parent} is not a folder but a link or a file", "remove it; LIFEBOAT_HOME may lie elsewhere")
    return parent
