"""What changed between two bundles: pure, from their descriptors and indexes."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.format.index import Asset
from bundler.format.record import to_json
from bundler.repository.reuse import Earlier


@dataclass(frozen=True)
class AssetChange:
    """An asset that came, went or changed; sizes in bytes, 0 where it is not."""

    path: str
    change: str
    old_bytes: int
    new_bytes: int


@dataclass(frozen=True)
class Difference:
    """From an older to a newer bundle.

    Attributes:
        assets: Those that differ.
        service: Fields of the service that differ: models, ladder, upstreams and so on.
        new_volume_bytes: Ciphertext that the newer one adds.
        shared_volumes: Volumes that both use.
    """

    old: str
    new: str
    assets: tuple[AssetChange, ...]
    service: tuple[str, ...]
    new_volume_bytes: int
    shared_volumes: int

    def lines(self) -> list[str]:
        """Describes the difference for people, sizes left to the caller's taste."""
        found = [f"{item.change:8} {item.path}  {item.old_bytes} -> {item.new_bytes} bytes" for item in self.assets]
        found += [f"service  {field} differs" for field in self.service]
        return found or ["no difference"]


def _facts(asset: Asset) -> tuple[str, str, str]:
    """What a bundle says of a file beside its bytes: a new bundle is made where only this differs."""
    return (asset.kind, asset.licence, asset.source)


def compare(old: Earlier, new: Earlier) -> Difference:
    """Compares two bundles of one repository."""
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
            changes.append(AssetChange(path, "changed", one.length_bytes, two.length_bytes))
        elif one is not None and two is not None and _facts(one) != _facts(two):
            changes.append(AssetChange(path, "relabelled", one.length_bytes, two.length_bytes))
    service_before, service_after = to_json(old.index.service), to_json(new.index.service)
    had = {volume.path for volume in old.descriptor.volumes}
    return Difference(
        old=old.descriptor.bundle,
        new=new.descriptor.bundle,
        assets=tuple(changes),
        service=tuple(field for field in service_after if service_before[field] != service_after[field]),
        new_volume_bytes=sum(volume.length_bytes for volume in new.descriptor.volumes if volume.path not in had),
        shared_volumes=sum(volume.path in had for volume in new.descriptor.volumes),
    )
