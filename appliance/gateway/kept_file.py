"""The file of what the gateway remembers: read at start, written where it changed; no fault of it ends the serving."""

from __future__ import annotations

from pathlib import Path

from appliance.gateway.kept import FORMAT, Kept
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json

FILE_BYTES_MAX = 1 << 20


def read(path: Path) -> Kept:
    """Returns what was kept last; nothing where it is not there or not to be read."""
    try:
        found = from_json(Kept, canonical.decode(read_limited(path, FILE_BYTES_MAX), path.name), path.name)
    except (FileMissing, BadBundle, OSError):
        return Kept(FORMAT, ())
    return found if found.format == FORMAT else Kept(FORMAT, ())


def write(path: Path, record: Kept, layer: FileLayer = DISK) -> None:
    """Writes it; raises OSError."""
    write_atomic(path, canonical.encode(to_json(record)), mode=0o600, layer=layer)
