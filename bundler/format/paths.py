"""Path rules: what may name a file inside a repository or an asset inside a bundle."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from bundler.format.errors import BadBundle
from bundler.format.limits import PATH_BYTES, PATH_DEPTH

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
# Names that FAT32 and Windows file shares cannot hold, whatever the extension.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check(path: str) -> str:
    """Returns the path unchanged if it is a plain relative path of portable ASCII segments.

    Raises:
        BadBundle: Absolute, empty, too long or deep, `..`, a leading dot, a final dot, or a character outside the set.
    """
    segments = path.split("/")
    if len(path.encode()) > PATH_BYTES or len(segments) > PATH_DEPTH:
        raise BadBundle(f"path is too long or too deep: {path[:80]!r}")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or segment.endswith(".") or _RESERVED.fullmatch(segment):
            raise BadBundle(f"path is not allowed: {path!r}")
    return path


def check_all(paths: Iterable[str]) -> None:
    """Checks each path, and that no two are the same file on a file system that folds case.

    Raises:
        BadBundle: As `check`, or a collision, or a path that is a folder of another.
    """
    seen: dict[str, str] = {}
    for path in paths:
        folded = unicodedata.normalize("NFC", check(path)).casefold()
        if folded in seen:
            raise BadBundle(f"paths collide: {path!r} and {seen[folded]!r}")
        seen[folded] = path
    for folded, path in seen.items():
        parents = folded.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            if "/".join(parents[:depth]) in seen:
                raise BadBundle(f"path {path!r} lies inside another file")


def inside(root: Path, path: str) -> Path:
    """Returns `root/path` after checking that no part of it is a symbolic link.

    Raises:
        BadBundle: The path is not allowed, or leads through a link.
    """
    target = root
    for segment in check(path).split("/"):
        target = target / segment
        if target.is_symlink():
            raise BadBundle(f"{path} leads through a symbolic link")
    return target
