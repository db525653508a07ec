"""What a bundle tells about itself: documents inside it, and plain ones beside it for who has no key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from bundler.format.content import PROVENANCE, Item, content_sha256
from bundler.format.index import Index, content_digest
from bundler.format.manifest import Descriptor
from bundler.format.service import Service
from bundler.repository.survey import Captured, Surveyed


class About(Protocol):
    """Writes the documents once everything else is known; `names` are those of the ones beside the bundle."""

    names: tuple[str, ...]

    def inside(self, surveyed: Sequence[Surveyed], content_sha256: str) -> tuple[Captured, ...]:
        """Returns documents that go into the bundle, from everything else that does, and its content digest."""

    def beside(self, descriptor: Descriptor) -> Mapping[str, bytes]:
        """Returns documents that lie in the open beside the bundle, by name."""


class Nothing:
    """Tells nothing."""

    names: tuple[str, ...] = ()

    def inside(self, surveyed: Sequence[Surveyed], content_sha256: str) -> tuple[Captured, ...]:  # noqa: ARG002
        return ()

    def beside(self, descriptor: Descriptor) -> Mapping[str, bytes]:  # noqa: ARG002
        return {}


NOTHING = Nothing()


def content_of_surveyed(profile: str, surveyed: Iterable[Surveyed], service: Service) -> str:
    """Returns the content digest of what was read, as `content_of` does of what was written."""
    return content_sha256(profile, [_item(each) for each in surveyed], service)


def is_same(index: Index, profile: str, surveyed: Sequence[Surveyed], service: Service) -> bool:
    """Whether a bundle of this index would be made again.

    What made it is no reason for another one: after an update of the builder 300 customers would each get a bundle
    that differs by a version number. So the provenance of the one that is there stands, and is not compared.
    """
    old = [
        (asset.path, asset.kind, asset.licence, asset.source, () if asset.kind == PROVENANCE else asset.digests())
        for asset in index.assets
    ]
    new = [
        (
            item.captured.path,
            item.captured.kind,
            item.captured.licence,
            item.captured.source,
            () if item.captured.kind == PROVENANCE else item.digests(),
        )
        for item in surveyed
    ]
    return (index.profile, index.service, old) == (profile, service, new)


def _item(surveyed: Surveyed) -> Item:
    captured = surveyed.captured
    return Item(
        captured.path,
        captured.kind,
        surveyed.stamp.length_bytes,
        captured.licence,
        captured.source,
        content_digest(surveyed.digests()),
    )
