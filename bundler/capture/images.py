"""A container image as assets: an OCI image layout (image-spec, image-layout.md), each blob a file of its own.

Equal blobs are stored once, whatever image they belong to: chunks are known by their digest.
"""

from __future__ import annotations

import json
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
    spec = image_spec(name, layout)
    folder = work / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_bytes(LAYOUT)
    (folder / "index.json").write_bytes(layout_index(name, layout))
    found = [
        _captured(f"{spec.prefix}/{file}", folder / file, source, licence) for file in ("oci-layout", "index.json")
    ]
    for digest in sorted(layout.digests):
        file = layout.blobs.path(digest)
        blob = _captured(f"{spec.prefix}/{blob_path(digest)}", file, source, licence)
        found.append(replace(blob, sha256=digest.removeprefix("sha256:")))
    return found


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


def _captured(path: str, file: Path, source: str, licence: str) -> Captured:
    chunk_bytes = CHUNK_BYTES if file.stat().st_size > _LARGE_BYTES else CHUNK_BYTES_SMALL
    return Captured(path, file, "image", licence, source, (), chunk_bytes)
