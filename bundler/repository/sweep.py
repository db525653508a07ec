"""What lies in a repository and is signed by nothing in force: found, and removed once that is durable."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files import FileLayer
from bundler.format.manifest import is_bundle_id
from bundler.format.trust.verify import TrustedRepository

# Files beside the index, whatever a later program puts there, and volumes.
_OURS = re.compile(r"[^/.][^/]*|vol/[0-9]{4,5}\.age")
_NUMBERED = re.compile(r"([0-9]+)\.(snapshot|targets|content)\.json")


@dataclass(frozen=True)
class Freed:
    """Bytes of removed files; `shared_bytes` lie under a hard link elsewhere too, and free nothing."""

    files: int = 0
    freed_bytes: int = 0
    shared_bytes: int = 0

    def __add__(self, other: Freed) -> Freed:
        return Freed(
            self.files + other.files, self.freed_bytes + other.freed_bytes, self.shared_bytes + other.shared_bytes
        )


def unlisted(folder: Path, listed: Collection[str]) -> list[Path]:
    """Returns files of bundles that the list does not name: of killed builds, and of removed bundles.

    A file that this program would not write is not its business, and is left.
    """
    found = []
    for bundle in sorted((folder / "bundles").glob("*")):
        if not is_bundle_id(bundle.name) or bundle.is_symlink():
            continue
        for path in sorted(bundle.rglob("*")):
            ours = _OURS.fullmatch(path.relative_to(bundle).as_posix()) is not None
            if ours and path.relative_to(folder).as_posix() not in listed and not path.is_dir():
                found.append(path)
    return found


def superseded(folder: Path, trusted: TrustedRepository) -> list[Path]:
    """Returns metadata of versions before those in force, which no reader asks for. Roots are a chain and stay."""
    current = {role: int(trusted.metadata_name(role).split(".")[0]) for role in ("snapshot", "targets", "content")}
    found = []
    for path in sorted((folder / "metadata").glob("*.json")):
        name = _NUMBERED.fullmatch(path.name)
        if name is not None and int(name[1]) < current[name[2]]:
            found.append(path)
    return found


def weigh(files: Sequence[Path]) -> Freed:
    """Returns what removing files frees."""
    looks = [path.lstat() for path in files]
    alone = sum(look.st_size for look in looks if look.st_nlink == 1)
    return Freed(len(looks), alone, sum(look.st_size for look in looks) - alone)


def remove(folder: Path, files: Sequence[Path], layer: FileLayer) -> Freed:
    """Removes files, and folders of bundles that are empty then; returns what that freed.

    The metadata that does not name them is made durable first: a kill may have left its last rename unsynced, and a
    power cut would bring back a list of files that are gone.
    """
    freed = weigh(files)
    if files:
        layer.sync_folder(folder / "metadata")
    for path in files:
        layer.remove(path)
    for parent in sorted({path.parent for path in files}):
        layer.sync_folder(parent)
    _remove_empty(folder / "bundles", layer)
    return freed


def _remove_empty(bundles: Path, layer: FileLayer) -> None:
    gone = False
    for bundle in bundles.glob("*"):
        if is_bundle_id(bundle.name) and bundle.is_dir() and not bundle.is_symlink():
            for path in (bundle / "vol", bundle):
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
                    gone = True
    if gone:
        layer.sync_folder(bundles)
