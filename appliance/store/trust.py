"""What the box remembers of the metadata that it has accepted, so that nothing older is ever accepted again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from appliance.store.seal import SiteSecrets
from bundler.files import FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import FileMissing
from bundler.format.limits import ROOT_BYTES
from bundler.format.record import from_json, to_json
from bundler.format.trust.medium import find_root
from bundler.format.trust.verify import Remembered, TrustedRepository


class TrustStore:
    """Reads and writes `STATE/trust`."""

    def __init__(self, folder: Path, layer: FileLayer) -> None:
        self._root, self._remembered, self._layer = folder / "root.json", folder / "remembered.json", layer
        self._expiries = folder / "expiries.json"

    def pinned_root(self, medium: Path, secrets: SiteSecrets) -> bytes:
        """Returns the root to start from: the newest accepted one, or on first contact the one that the card proves."""
        if self._root.exists():
            return read_limited(self._root, ROOT_BYTES)
        return find_root(medium, secrets.root_sha256)

    def remembered(self) -> Remembered | None:
        try:
            data = read_limited(self._remembered, ROOT_BYTES)
        except FileMissing:
            return None
        return from_json(Remembered, canonical.decode(data, "remembered.json"), "remembered")

    def root(self) -> bytes:
        """Returns the pinned root; raises FileMissing where there is none yet."""
        return read_limited(self._root, ROOT_BYTES)

    def expiries(self) -> dict[str, datetime]:
        """Returns when each role of the metadata expires that was accepted last; empty where nobody wrote it down.

        Raises:
            BadBundle, ValueError: The file was changed on this disk.
        """
        try:
            value = canonical.decode(read_limited(self._expiries, ROOT_BYTES), "expiries.json")
        except FileMissing:
            return {}
        return {str(role): datetime.fromisoformat(str(when)).astimezone(UTC) for role, when in value.items()}

    def files(self) -> dict[str, bytes]:
        """Returns the memory as it lies on the disk, by name; nothing where nothing was accepted yet."""
        found = (path for path in (self._root, self._remembered) if path.exists())
        return {path.name: read_limited(path, ROOT_BYTES) for path in found}

    def replace(self, files: Mapping[str, bytes]) -> None:
        """Takes over the memory of another box of this site, on a box that has no seal yet."""
        for path in (self._root, self._remembered):
            if (data := files.get(path.name)) is not None:
                write_atomic(path, data, mode=0o600, layer=self._layer)
            elif path.exists():
                self._layer.remove(path)

    def store(self, trusted: TrustedRepository) -> None:
        """Stores the newest root, the versions and signed time of the rest, and, for people, when they expire."""
        expiries = {role: when.isoformat() for role, when in trusted.expiries.items()}
        write_atomic(self._expiries, canonical.encode(expiries), mode=0o600, layer=self._layer)
        write_atomic(self._root, trusted.root, mode=0o600, layer=self._layer)
        write_atomic(self._remembered, canonical.encode(to_json(trusted.remembered())), mode=0o600, layer=self._layer)
