"""Where things lie under STATE. Only path arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateLayout:
    """The folders of one box's state.

    Attributes:
        root: STATE itself, readable by the box's user alone.
    """

    root: Path

    @property
    def repository(self) -> Path:
        """Volumes as they travelled: the same ciphertext."""
        return self.root / "repository"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def current(self) -> Path:
        """The one symbolic link that says which version serves."""
        return self.root / "current"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens.json"

    @property
    def run(self) -> Path:
        """Sockets and locks; nothing in it outlives a boot."""
        return self.root / "run"

    def version(self, number: int) -> Path:
        return self.versions / str(number)

    def make(self) -> None:
        """Makes the folders, closed to other users."""
        for folder in (self.root, self.repository, self.keys, self.trust, self.versions, self.run):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
