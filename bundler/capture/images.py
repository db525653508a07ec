"""A container image as assets, or what is attached to an artifact: an OCI image layout (image-spec, image-layout.md).

Each blob is a file of its own. Equal blobs are stored once, whatever they belong to: chunks are known by their digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bundler.format.image import ImageSpec, blob_path
from bundler.format.limits import CHUNK_BYTES, CHUNK_BYTES_SMALL, MIB
from bundler.format.oci import INDEX_TYPES, LAYOUT, REF_NAME
from bundler.repository.survey import Captured
from bundler.sources.attached import IMAGE, INDEX
from bundler.sources.layout import Layout

_LARGE_BYTES = 4 * MIB


def image_spec(name: str, layout: Layout) -> ImageSpec:
    """Returns what the box needs to know of an image."""
    return ImageSpec(name, f"images/{name}", layout.top.digest, layout.platform)


def capture_image(name: str, layout: Layout, source: str, licence: str, work: Path) -> list[Captured]:
    """Returns the files of an image's layout; what is written anew lies in `work`."""
    files = _files(image_spec(name, layout).prefix, name, layout, work)
    return [_captured(path, file, "image", source, licence, sha256) for path, file, sha256 in files]


def capture_attached(name: str, layout: Layout, source: str, work: Path) -> list[Captured]:
    """Returns the files of a layout of what is attached to a model's artifact (SPEC 7.7); they state no licence."""
    files = _files(f"attached/{name}", name, layout, work)
    return [_captured(path, file, "attached", source, "", sha256) for path, file, sha256 in files]


def _files(prefix: str, name: str, layout: Layout, work: Path) -> Iterator[tuple[str, Path, str]]:
    """Yields each file of a layout: its path in the bundle, where it lies, and its SHA-256 where that is known."""
    folder = work / prefix
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in {"oci-layout": LAYOUT, "index.json": layout_index(name, layout)}.items():
        (folder / file).write_bytes(data)
        yield f"{prefix}/{file}", folder / file, ""
    for digest in sorted(layout.digests):
        yield f"{prefix}/{blob_path(digest)}", layout.blobs.path(digest), digest.removeprefix("sha256:")


def layout_index(name: str, layout: Layout) -> bytes:
    """Returns `index.json`: the image under its name, and what is attached to it as cosign finds it. Pure."""
    kind = INDEX if layout.top.media_type in INDEX_TYPES else IMAGE
    entries = [replace(layout.top, annotations={REF_NAME: name, "kind": kind}).to_json()]
    for item in layout.attachments:
        told = {REF_NAME: item.tag} | ({"kind": item.kind} if item.kind else {})
        entry = {"mediaType": item.media_type, "digest": item.digest, "size": item.length_bytes, "annotations": told}
        entries.append(entry)
    value = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": entries}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _captured(path: str, file: Path, kind: str, source: str, licence: str, sha256: str) -> Captured:
    chunk_bytes = CHUNK_BYTES if file.stat().st_size > _LARGE_BYTES else CHUNK_BYTES_SMALL
    return Captured(path, file, kind, licence, source, (), chunk_bytes, sha256)
