"""The file of what tokens used today, `STATE/quotas.json`: ids and counts, of one day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.files import DISK, FileLayer, exclusive, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json

FORMAT = 1
FILE_BYTES_MAX = 4 * 2**20
_WAIT_S = 5.0


@dataclass(frozen=True)
class Used:
    """The file: the day (days since 1970, UTC), and token id -> model tokens."""

    format: int
    day: int
    tokens: dict[str, int]


def read(path: Path, day: int) -> dict[str, int]:
    """Returns what was used on a day; nothing where the file is of another one, not there, or not to be read."""
    try:
        found = from_json(Used, canonical.decode(read_limited(path, FILE_BYTES_MAX), path.name), path.name)
    except (FileMissing, BadBundle):
        return {}
    return found.tokens if (found.format, found.day) == (FORMAT, day) else {}


def add(path: Path, day: int, used: Mapping[str, int], layer: FileLayer = DISK) -> dict[str, int]:
    """Adds to what was used on a day, and returns the sums.

    Raises:
        OSError: The disk takes no note.
        Busy: Another process holds the file.
    """
    with exclusive(path.with_suffix(".lock"), "what tokens used is being written", _WAIT_S):
        found = read(path, day)
        sums = {name: found.get(name, 0) + used.get(name, 0) for name in {*found, *used}}
        if used:
            write_atomic(path, canonical.encode(to_json(Used(FORMAT, day, sums))), mode=0o600, layer=layer)
        return sums
