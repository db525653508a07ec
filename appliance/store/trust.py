"""What the box remembers of the metadata that it has accepted, so that nothing older is ever accepted again."""

from __future__ import annotations

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

    def store(self, trusted: TrustedRepository) -> None:
        """Stores the newest root and the versions and signed time of the rest."""
        write_atomic(self._root, trusted.root, mode=0o600, layer=self._layer)
        write_atomic(self._remembered, canonical.encode(to_json(trusted.remembered())), mode=0o600, layer=self._layer)
