"""What became of the images of the serving bundle: `STATE/images.json`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from appliance.store.layout import StateLayout
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import LATER, from_json, to_json

_RECORD_BYTES = 1 << 20
# What we load, and so what we may remove again: root acts on this record, and the service's user may write it.
OURS = re.compile(r"localhost/lifeboat/[a-z0-9]+([._-][a-z0-9]+)*:[0-9a-f]{12}")


@dataclass(frozen=True)
class ImageTold:
    """One image.

    Attributes:
        name: As the bundle calls it.
        reference: Its name in the engine.
        engine: "podman" or "docker"; "" where none took it.
        problem: Why none did, or "".
        absent: Whether that is only because this machine has neither.
        config: The digest of its config in hex, which is its id in the engine; "" where that was not written down.
        was_there: Whether the engine had it before we loaded it: then we take our names away and never the image.
    """

    name: str
    reference: str
    engine: str
    problem: str
    absent: bool = False
    config: str = field(default="", metadata=LATER)
    was_there: bool = field(default=False, metadata=LATER)

    @property
    def line(self) -> str:
        if self.engine:
            return f"image {self.name}: {self.reference} in {self.engine}, not started"
        return f"image {self.name}: not loaded, {self.problem}"


@dataclass(frozen=True)
class ImageRecord:
    """The images of a bundle, when they were loaded, and what else we brought into an engine.

    It is written before an engine is given anything and again afterwards, so that nothing is in an engine by us and in
    no record, wherever a load was killed.

    Attributes:
        bundle: Its id.
        when: ISO 8601.
        images: What became of each.
        earlier: What of earlier bundles, or of a load that did not end, may still be in an engine.
    """

    bundle: str
    when: str
    images: tuple[ImageTold, ...]
    earlier: tuple[ImageTold, ...] = ()


def write(layout: StateLayout, record: ImageRecord, layer: FileLayer = DISK) -> None:
    write_atomic(layout.images, canonical.encode(to_json(record)), mode=0o600, layer=layer)


def read(layout: StateLayout) -> ImageRecord | None:
    """Returns the record, or None where there is none or it cannot be read: loading again makes it anew."""
    try:
        data = canonical.decode(read_limited(layout.images, _RECORD_BYTES), "images.json")
        record = from_json(ImageRecord, data, "images.json")
    except (FileMissing, BadBundle):
        return None
    told = (*record.images, *record.earlier)
    return record if all(not item.engine or OURS.fullmatch(item.reference) for item in told) else None


def lines(record: ImageRecord | None, bundle: str) -> list[str]:
    """Returns what to tell of the images of a bundle that serves. Pure."""
    if record is None:
        return []
    if record.bundle != bundle:
        return [f"images: those of bundle {record.bundle} are loaded; `lifeboat-appliance image load` loads this one's"]
    return [item.line for item in record.images]


def problems(record: ImageRecord | None, bundle: str) -> list[str]:
    """Returns what a person should see to: not that a machine has no engine, which is how it is meant. Pure."""
    told = () if record is None else record.images
    if record is not None and record.bundle != bundle:
        return lines(record, bundle) if any(item.engine for item in told) else []
    return [item.line for item in told if item.problem and not item.absent]
