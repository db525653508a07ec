"""Where vectors of earlier builds lie: HOME/cache/vectors/OWNER/MODEL.age, one file a profile's repository and model.

Customers share a builder's account: what one of them had embedded is neither shown to another's build nor lost to it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bundler.files import write_atomic

MOST_BYTES = 16 << 30
_FILE = re.compile(r"[0-9a-f]{64}\.age")


@dataclass(frozen=True)
class VectorFiles:
    """The files of one owner.

    Attributes:
        folder: HOME/cache/vectors, with the folders of every owner.
        owner: As `owner_of` names it.
        most_bytes: Of all owners; those that were written longest ago go first.
    """

    folder: Path
    owner: str
    most_bytes: int = MOST_BYTES

    def path(self, model: str) -> Path:
        """Returns the file of a model, which anything that decides its vectors names."""
        return self.folder / self.owner / f"{hashlib.sha256(model.encode()).hexdigest()}.age"

    def write(self, path: Path, data: bytes) -> None:
        """Writes a file of `path`, and removes what is too much."""
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        write_atomic(path, data, mode=0o600)
        self._remove_shared()
        self._remove_oldest(path)

    def _remove_shared(self) -> None:
        """Removes files that all owners shared: builders wrote them before each had its own folder."""
        for path in self.folder.glob("*.age"):
            if _FILE.fullmatch(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)

    def _remove_oldest(self, fresh: Path) -> None:
        # A build that still reads one keeps it open; one that comes too late embeds anew.
        left_bytes = self.most_bytes - fresh.stat().st_size
        for _, length_bytes, path in sorted(self._others(fresh), reverse=True):
            left_bytes -= length_bytes
            if left_bytes < 0:
                path.unlink(missing_ok=True)

    def _others(self, fresh: Path) -> Iterator[tuple[int, int, Path]]:
        for path in self.folder.glob("*/*.age"):
            if path != fresh and _FILE.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another build removed it
                    facts = path.lstat()
                    yield facts.st_mtime_ns, facts.st_size, path


def owner_of(repository: Path, profile: str) -> str:
    """Returns the name of an owner's folder: one per repository and profile, and it tells neither."""
    return hashlib.sha256(f"{repository.resolve()}\0{profile}".encode()).hexdigest()[:32]
