"""What changed between two bundles: pure, from their descriptors and indexes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields

from bundler.format.content import content_of
from bundler.format.index import Asset
from bundler.format.record import to_json
from bundler.format.service import Service
from bundler.repository.reuse import Earlier

Read = Callable[[str], bytes]
# Assets whose lines are records, and the field that people know a record by.
_NAMED = {"faq.jsonl": "question", "texts.jsonl": "source"}
_READ_BYTES = 64 << 20


@dataclass(frozen=True)
class AssetChange:
    """An asset that came, went or changed; sizes in bytes, 0 where it is not.

    Attributes:
        path: Its name inside the bundle.
        change: "added", "removed", "changed", or "relabelled" where only its licence, kind or source differ.
        old_bytes: Its size before.
        new_bytes: Its size after.
        entries: For an FAQ and for documents: what was added, removed and changed, by question or by name.
    """

    path: str
    change: str
    old_bytes: int
    new_bytes: int
    entries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """From an older to a newer bundle.

    Attributes:
        assets: Those that differ.
        service: Fields of the service that differ: models, ladder, upstreams and so on.
        new_volume_bytes: Ciphertext that the newer one adds.
        shared_volumes: Volumes that both use.
        old_content: Content digest of the older one (SPEC 4.8).
        new_content: Content digest of the newer one.
    """

    old: str
    new: str
    assets: tuple[AssetChange, ...]
    service: tuple[str, ...]
    new_volume_bytes: int
    shared_volumes: int
    old_content: str = ""
    new_content: str = ""

    def lines(self) -> list[str]:
        """Describes the difference for people, sizes left to the caller's taste."""
        found = []
        for item in self.assets:
            found.append(f"{item.change:8} {item.path}  {item.old_bytes} -> {item.new_bytes} bytes")
            found += [f"           {entry}" for entry in item.entries]
        found += [f"service  {field} differs" for field in self.service]
        return found or ["no difference"]


def _entries(one: Asset, two: Asset, read_old: Read, read_new: Read) -> tuple[str, ...]:
    """Names what differs inside an asset whose lines are records with a name."""
    key = _NAMED.get(one.path.rsplit("/", 1)[-1])
    if key is None or max(one.length_bytes, two.length_bytes) > _READ_BYTES:
        return ()
    before, after = (
        {row[key]: row for row in map(json.loads, read(asset.path).decode().split("\n")[:-1])}
        for asset, read in ((one, read_old), (two, read_new))
    )
    found = [f"+ {name}" for name in after if name not in before]
    found += [f"- {name}" for name in before if name not in after]
    found += [f"~ {name}" for name, row in after.items() if name in before and before[name] != row]
    return tuple(found)


def _facts(asset: Asset) -> tuple[str, str, str]:
    """What a bundle says of a file beside its bytes: a new bundle is made where only this differs."""
    return (asset.kind, asset.licence, asset.source)


def _fields(old: Service, new: Service) -> tuple[str, ...]:
    """Returns the fields that differ; one that holds its default is in neither (SPEC 11.3)."""
    before, after = to_json(old), to_json(new)
    names = [field.name for field in fields(Service)]
    return tuple(name for name in names if before.get(name) != after.get(name))


def compare(old: Earlier, new: Earlier, read_old: Read, read_new: Read) -> Difference:
    """Compares two bundles of one repository.

    Args:
        old: The older one.
        new: The newer one.
        read_old: Reads an asset of the older one by its path.
        read_new: Reads an asset of the newer one.
    """
    before = {asset.path: asset for asset in old.index.assets}
    after = {asset.path: asset for asset in new.index.assets}
    changes = []
    for path in sorted(before.keys() | after.keys()):
        one, two = before.get(path), after.get(path)
        if one is None and two is not None:
            changes.append(AssetChange(path, "added", 0, two.length_bytes))
        elif two is None and one is not None:
            changes.append(AssetChange(path, "removed", one.length_bytes, 0))
        elif one is not None and two is not None and one.digests() != two.digests():
            entries = _entries(one, two, read_old, read_new)
            changes.append(AssetChange(path, "changed", one.length_bytes, two.length_bytes, entries))
        elif one is not None and two is not None and _facts(one) != _facts(two):
            changes.append(AssetChange(path, "relabelled", one.length_bytes, two.length_bytes))
    had = {volume.path for volume in old.descriptor.volumes}
    return Difference(
        old=old.descriptor.bundle,
        new=new.descriptor.bundle,
        assets=tuple(changes),
        service=_fields(old.index.service, new.index.service),
        new_volume_bytes=sum(volume.length_bytes for volume in new.descriptor.volumes if volume.path not in had),
        shared_volumes=sum(volume.path in had for volume in new.descriptor.volumes),
        old_content=content_of(old.index),
        new_content=content_of(new.index),
    )
