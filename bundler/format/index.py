"""The index: assets and the chunk map. It is encrypted; the chunk digests in it are the gate for use of any byte."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bundler.format import canonical, paths
from bundler.format.errors import BadBundle
from bundler.format.image import check_images
from bundler.format.limits import ASSETS, CHUNK_BYTES_MAX, CHUNKS, INDEX_BYTES, bounded
from bundler.format.record import from_json, to_json
from bundler.format.service import (
    ABILITIES,
    AUTHS,
    CRITICALITIES,
    REDACT_KINDS,
    SERVES,
    STREAMS,
    TOO_LONG,
    UPSTREAM_KINDS,
    Service,
)
from bundler.format.store import METRICS

_SHA256 = re.compile(r"[0-9a-f]{64}")

# Kinds of asset. A reader refuses none that it does not know: it does not load it.
KINDS = (
    *("gguf", "onnx", "tokenizer", "config", "chunks", "texts", "vectors", "faq", "router", "selftest", "licence"),
    *("answers", "image", "attached", "sbom", "provenance"),
)


@dataclass(frozen=True)
class Chunk:
    """A stretch of an asset's plaintext: its SHA-256, and where it stands in the plaintext of a volume.

    `volume` counts from 0 in the descriptor's list of volumes.
    """

    sha256: str
    volume: int
    offset: int
    length: int


@dataclass(frozen=True)
class Asset:
    """A file of the bundle, in order of its chunks.

    Attributes:
        path: Its name inside the bundle.
        kind: One of `KINDS`, or one that this reader does not know.
        length_bytes: Its size.
        sha256: Digest of the whole where the builder knew it, else "": the digests of the chunks are the gate.
        licence: SPDX identifier, or "".
        source: The pinned source it was built from.
        chunks: Its bytes, in order.
    """

    path: str
    kind: str
    length_bytes: int
    sha256: str
    licence: str
    source: str
    chunks: tuple[Chunk, ...]

    def digests(self) -> tuple[str, ...]:
        """Returns the digests of its chunks: two assets cut alike are equal if these are."""
        return tuple(chunk.sha256 for chunk in self.chunks)


def content_digest(digests: Iterable[str]) -> str:
    """Returns the digest that stands for an asset: SHA-256 over the SHA-256 of each chunk, 32 bytes each, in order."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


@dataclass(frozen=True)
class Index:
    """Everything a box needs to know of a bundle."""

    format: int
    repository: str
    bundle: str
    profile: str
    assets: tuple[Asset, ...]
    service: Service

    def asset(self, path: str) -> Asset:
        """Returns the asset of that path; raises BadBundle if there is none."""
        for asset in self.assets:
            if asset.path == path:
                return asset
        raise BadBundle(f"the bundle has no asset {path!r}")


def encode_index(index: Index) -> bytes:
    """Returns the plaintext of `index.age`; raises BadInput where it is longer than a reader takes."""
    return bounded(canonical.encode(to_json(index)), INDEX_BYTES * 7 // 8, "the index")


def decode_index(data: bytes, *, volumes: int) -> Index:
    """Reads the plaintext of `index.age`.

    Args:
        data: The authenticated plaintext, padding removed.
        volumes: How many volumes the descriptor lists.

    Raises:
        BadBundle: Not as `encode_index` writes it, or a chunk that can't be.
    """
    index = from_json(Index, canonical.decode(data, "the index"), "index")
    if len(index.assets) > ASSETS or sum(len(asset.chunks) for asset in index.assets) > CHUNKS:
        raise BadBundle("the index lists more assets or chunks than the format allows")
    paths.check_all(asset.path for asset in index.assets)
    for asset in index.assets:
        _check_asset(asset, volumes)
    _check_places(index)
    _check_models(index.service)
    _check_routes(index.service)
    for collection in index.service.collections:
        if collection.store is not None and collection.store.metric not in METRICS:
            raise BadBundle(
                f"the collection {collection.name} ranks by {collection.store.metric!r}, which is not known"
            )
    check_images(index.service.images, frozenset(asset.path for asset in index.assets))
    for rule in index.service.redact:
        if rule.kind not in REDACT_KINDS:
            raise BadBundle(f"the redaction {rule.name} is of the kind {rule.kind!r}, which this reader does not know")
    return index


def _check_asset(asset: Asset, volumes: int) -> None:
    if asset.sha256 and not _SHA256.fullmatch(asset.sha256):
        raise BadBundle(f"{asset.path} has no sound digest")
    if sum(chunk.length for chunk in asset.chunks) != asset.length_bytes:
        raise BadBundle(f"the chunks of {asset.path} do not add up to {asset.length_bytes} bytes")
    for chunk in asset.chunks:
        sound = _SHA256.fullmatch(chunk.sha256) and 0 < chunk.length <= CHUNK_BYTES_MAX
        if not sound or not 0 <= chunk.volume < volumes or chunk.offset < 0:
            raise BadBundle(f"{asset.path} has a chunk that cannot be")


def _check_models(service: Service) -> None:
    for model in service.models:
        if model.serves not in SERVES:
            raise BadBundle(f"the model {model.name} serves {model.serves!r}, which this reader does not know")


def _check_routes(service: Service) -> None:
    """A word that this reader does not know must not be taken for the default."""
    for route in service.routes:
        known = ((route.stream, STREAMS), (route.criticality, CRITICALITIES), (route.too_long, TOO_LONG))
        if strange := [word for word, words in known if word not in words]:
            raise BadBundle(f"the route {route.name} says {strange[0]!r}, which this reader does not know")
    rungs = {rung.name for rung in service.ladder.rungs}
    for route in service.routes:
        if lost := [name for name in route.rungs if name not in rungs]:
            raise BadBundle(f"the route {route.name} names the rung {lost[0]!r}, which is not there")
    for upstream in service.upstreams:
        if upstream.can is not None and (strange := [word for word in upstream.can if word not in ABILITIES]):
            raise BadBundle(f"the upstream {upstream.name} can {strange[0]!r}, which this reader does not know")
        if upstream.wire.auth not in AUTHS:
            raise BadBundle(f"the upstream {upstream.name} wants its key in {upstream.wire.auth!r}, which is not known")
        if upstream.kind not in UPSTREAM_KINDS:
            raise BadBundle(f"the upstream {upstream.name} is of an unknown kind, {upstream.kind!r}")


def _check_places(index: Index) -> None:
    """One place holds one chunk: two digests for the same place would let one of them never be checked."""
    places = {(chunk.volume, chunk.offset, chunk.length, chunk.sha256) for a in index.assets for chunk in a.chunks}
    starts = Counter((volume, offset) for volume, offset, _, _ in places)
    if starts and starts.most_common(1)[0][1] > 1:
        raise BadBundle("two different chunks stand at the same place of a volume")
