"""What the last nightly look found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.store.layout import StateLayout
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json

_RECORD_BYTES = 65_536
DISK_FAILED = "disk: FAILED"


@dataclass(frozen=True)
class Nightly:
    """What was looked at, when (ISO 8601), whether all held, and a line for each part."""

    version: int
    when: str
    passed: bool
    lines: tuple[str, ...]

    @property
    def disk_failed(self) -> bool:
        """Whether a chunk on this disk was not as it was signed."""
        return any(line.startswith(DISK_FAILED) for line in self.lines)


def age_days(found: Nightly, now: datetime) -> int:
    """Returns the whole days since a look."""
    return (now - datetime.fromisoformat(found.when)).days


def write(layout: StateLayout, found: Nightly, layer: FileLayer = DISK) -> None:
    write_atomic(layout.nightly, canonical.encode(to_json(found)), mode=0o600, layer=layer)


def read(layout: StateLayout) -> Nightly | None:
    """Returns what was found, or None where no night has passed or the record cannot be read."""
    try:
        found = from_json(Nightly, canonical.decode(read_limited(layout.nightly, _RECORD_BYTES), "nightly"), "nightly")
        # A time without a zone cannot be held against now.
        return found if datetime.fromisoformat(found.when).tzinfo is not None else None
    except (FileMissing, BadBundle, ValueError):
        return None
