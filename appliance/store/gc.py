"""Removes what no version needs any more: volumes by reachability, records of versions that will never serve again.

Kept are the serving version, the one that waits, and the one to which the box would go back. A file goes before the
record that names it would, so that a rerun after a power cut finds what is left.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.store import current, versions
from appliance.store.intake import files_of
from appliance.store.layout import StateLayout
from appliance.store.seal import SiteSecrets
from bundler.files import DISK, FileLayer, read_limited
from bundler.format import paths
from bundler.format.limits import DESCRIPTOR_BYTES
from bundler.format.manifest import decode_descriptor, order_of


@dataclass(frozen=True)
class Collected:
    """What was removed: files of the repository, their bytes, and records of versions."""

    files: int
    bytes: int
    versions: tuple[int, ...]


def collect(layout: StateLayout, secrets: SiteSecrets, layer: FileLayer = DISK) -> Collected:
    """Removes what is not needed; the caller holds the lock under which versions are installed.

    Raises:
        BadBundle: A record that is needed was changed on this disk; nothing is removed.
    """
    wanted = kept(layout)
    if not wanted:
        return Collected(0, 0, ())
    needed = {layout.finished, *(path for number in wanted for path in _reached(layout, secrets, number))}
    files, freed = 0, 0
    for path in sorted(layout.repository.rglob("*")):
        if path.is_file() and path not in needed:
            freed += path.stat().st_size
            files += 1
            layer.remove(path)
    for folder in sorted((path for path in layout.repository.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    layer.sync_folder(layout.repository)
    gone = tuple(sorted(set(current.numbers(layout)) - wanted - _told(layout, secrets)))
    for number in gone:
        shutil.rmtree(layout.version(number))
    layer.sync_folder(layout.versions)
    return Collected(files, freed, gone)


def kept(layout: StateLayout) -> set[int]:
    """Returns the versions that are kept: the serving one, the one before it, and one that waits."""
    serving = current.current_number(layout)
    if serving is None:
        return set()
    found = {serving, current.previous(layout, serving), current.waiting_number(layout)}
    return {number for number in found if number is not None}


def _told(layout: StateLayout, secrets: SiteSecrets) -> set[int]:
    """Versions that were given up and whose reason is still news: later than the one that serves, or of a newer bundle.

    Without the record the next install would bring back a bundle that a person took back.
    """
    serving = current.current_number(layout) or 0
    order = order_of(versions.read_version(layout, secrets, serving).bundle)
    given_up = (number for number in current.numbers(layout) if current.given_up(layout, number) is not None)
    return {
        number
        for number in given_up
        if number > serving or order_of(versions.read_version(layout, secrets, number).bundle) > order
    }


def _reached(layout: StateLayout, secrets: SiteSecrets, number: int) -> set[Path]:
    version = versions.read_version(layout, secrets, number)
    descriptor_path = paths.inside(layout.repository, version.descriptor_path)
    descriptor = decode_descriptor(read_limited(descriptor_path, DESCRIPTOR_BYTES))
    files = {paths.inside(layout.repository, file.path) for file in files_of(descriptor)}
    return {descriptor_path, *files}
