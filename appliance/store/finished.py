"""Which volumes of the store are finished: copied whole, and every chunk that a bundle uses of them checked.

A later install, or the same one after a power cut, does not read these again. The record is a help and proves nothing:
whoever reads a chunk to use it checks its digest, and where one fails the volume is read whole and copied again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bundler.files import FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.limits import VOLUMES
from bundler.format.record import from_json, to_json

_RECORD_BYTES = VOLUMES * 1024


@dataclass(frozen=True)
class Finished:
    """One volume: its ciphertext's SHA-256, and the stamp of the chunks that were checked."""

    sha256: str
    chunks: str


@dataclass(frozen=True)
class _Record:
    volumes: dict[str, Finished] = field(default_factory=dict)


class FinishedVolumes:
    """The record on this disk; a volume is noted after it has its final name, never before."""

    def __init__(self, path: Path, layer: FileLayer) -> None:
        self._path, self._layer = path, layer
        self._volumes = _read(path)

    def says(self, path: str, what: Finished) -> bool:
        return self._volumes.get(path) == what

    def note(self, path: str, what: Finished) -> None:
        self._volumes[path] = what
        self._write()

    def forget(self, path: str) -> None:
        if self._volumes.pop(path, None) is not None:
            self._write()

    def _write(self) -> None:
        data = canonical.encode(to_json(_Record(self._volumes)))
        write_atomic(self._path, data, mode=0o600, layer=self._layer)


def _read(path: Path) -> dict[str, Finished]:
    """A record that cannot be read is none: then every volume is read once more."""
    try:
        value = canonical.decode(read_limited(path, _RECORD_BYTES), "finished.json")
        return dict(from_json(_Record, value, "finished").volumes)
    except (FileMissing, BadBundle):
        return {}
