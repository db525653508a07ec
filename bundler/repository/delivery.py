"""`delivery.json` on a medium: which signed files a copy left out on purpose, so that nobody takes them for lost.

It is not signed. Whoever changes it can hide from a courier that a file was lost, which the box then says; no more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import FileMissing, NewerFormat
from bundler.format.limits import TARGETS_BYTES
from bundler.format.record import from_json, to_json

NAME = "delivery.json"
_FORMAT = 1


@dataclass(frozen=True)
class Delivery:
    """What a copy wrote down; `left_out` are paths of targets."""

    format: int
    left_out: tuple[str, ...]


def write_delivery(medium: Path, targets: Collection[str], layer: FileLayer = DISK) -> None:
    """Writes down which of the targets the medium does not hold."""
    left_out = tuple(sorted(path for path in targets if not (medium / path).exists()))
    write_atomic(medium / NAME, canonical.encode(to_json(Delivery(_FORMAT, left_out))), layer=layer)


def left_out(folder: Path) -> frozenset[str]:
    """Returns what a copy left out; nothing in a repository, which holds everything.

    Raises:
        BadBundle: It is not what we write.
        NewerFormat: A later program wrote it.
    """
    try:
        data = read_limited(folder / NAME, TARGETS_BYTES)
    except FileMissing:
        return frozenset()
    delivery = from_json(Delivery, canonical.decode(data, NAME), NAME)
    if delivery.format != _FORMAT:
        raise NewerFormat(f"{NAME} is of format {delivery.format}, this program reads {_FORMAT}", "update this program")
    return frozenset(delivery.left_out)
