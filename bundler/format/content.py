"""The content digest (SPEC 4.8): what two bundles hold alike, whatever their ids, keys and volumes are. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bundler.format import canonical
from bundler.format.index import Index, content_digest
from bundler.format.record import to_json
from bundler.format.service import Service

SBOM, PROVENANCE = ABOUT = ("sbom", "provenance")


@dataclass(frozen=True)
class Item:
    """An asset without its places: its facts, and the digest of its chunks (`index.content_digest`)."""

    path: str
    kind: str
    length_bytes: int
    licence: str
    source: str
    sha256: str


def content_sha256(profile: str, items: Iterable[Item], service: Service) -> str:
    """Returns the content digest of a bundle.

    Args:
        profile: Its name.
        items: Its assets; those that tell about the others (`ABOUT`) do not count.
        service: With the digests of its models.
    """
    counted = sorted((item for item in items if item.kind not in ABOUT), key=lambda item: item.path)
    stated = {"profile": profile, "assets": to_json(counted), "service": to_json(service)}
    return hashlib.sha256(canonical.encode(stated)).hexdigest()


def content_of(index: Index) -> str:
    """Returns the content digest of an open bundle."""
    items = [
        Item(asset.path, asset.kind, asset.length_bytes, asset.licence, asset.source, content_digest(asset.digests()))
        for asset in index.assets
    ]
    return content_sha256(index.profile, items, index.service)
