"""An image of a bundle as a stream for `podman load` or `docker load`: nothing of it is written here.

Rules (SPEC 7.4): the manifest and the config are checked against their digests before a byte goes out; layers are read
chunk by chunk, each checked; the name is ours, whatever the layout calls it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import IO, Any

from bundler.format.bundle import Bundle
from bundler.format.errors import BadBundle
from bundler.format.image import ImageSpec, blob_path
from bundler.format.index import Asset
from bundler.format.oci import (
    LAYOUT,
    MANIFEST_BYTES,
    REF_NAME,
    Descriptor,
    Manifest,
    choose,
    fits,
    platform_of,
    read_json,
    read_manifest,
)


@dataclass(frozen=True)
class Picked:
    """The image of one platform.

    Attributes:
        spec: Of which image of the bundle.
        top: Its manifest.
        manifest: The same, read.
        config: Its config.
    """

    spec: ImageSpec
    top: Descriptor
    manifest: Manifest
    config: Descriptor

    @property
    def reference(self) -> str:
        """Its name on this machine: it does not change while the image does not."""
        return f"localhost/lifeboat/{self.spec.name}:{self.top.hex[:12]}"

    @property
    def length_bytes(self) -> int:
        return self.top.length_bytes + sum(blob.length_bytes for blob in self.manifest.blobs)


def pick(bundle: Bundle, spec: ImageSpec, platform: str) -> Picked:
    """Returns the image that this machine can use.

    Args:
        bundle: Open.
        spec: One of its images.
        platform: Of this machine.

    Raises:
        BadBundle: It is for another, or is not what its digest says.
    """
    data = _small(bundle, spec, spec.digest)
    manifest = read_manifest(data, spec.name)
    digest = spec.digest
    if manifest.is_index:
        digest = choose(manifest, platform, spec.name).digest
        data = _small(bundle, spec, digest)
        manifest = read_manifest(data, spec.name)
    if manifest.config is None or not manifest.is_image:
        raise BadBundle(f"{spec.name} is no container image")
    found = platform_of(read_json(_small(bundle, spec, manifest.config.digest), f"the config of {spec.name}"))
    if not fits(platform, found):
        raise BadBundle(f"{spec.name} is an image for {found}, this machine is {platform}")
    top = Descriptor(manifest.media_type, digest, len(data))
    return Picked(spec, top, manifest, manifest.config)


def write_archive(
    bundle: Bundle, picked: Picked, target: IO[bytes], *, docker: bool, on_bytes: Callable[[int], None]
) -> None:
    """Writes an image as a tar archive: an OCI layout, or with the table of contents that Docker reads.

    Raises:
        BadBundle: A chunk is not what was signed; what was written is no whole archive.
        OSError: Nobody reads it any more.
    """
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive:
        contents = _docker_contents(picked) if docker else _layout_index(picked)
        _add(archive, "oci-layout", LAYOUT)
        for digest in dict.fromkeys((picked.top.digest, *(blob.digest for blob in picked.manifest.blobs))):
            asset = bundle.index.asset(picked.spec.asset(digest))
            entry = tarfile.TarInfo(blob_path(digest))
            entry.size = asset.length_bytes
            archive.addfile(entry, io.BufferedReader(_AssetFile(bundle, asset, on_bytes)))
        _add(archive, "manifest.json" if docker else "index.json", contents)


def _layout_index(picked: Picked) -> bytes:
    entry = replace(picked.top, annotations={REF_NAME: picked.reference}).to_json()
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()


def _docker_contents(picked: Picked) -> bytes:
    """The `manifest.json` of `docker save`: Docker before version 25 reads nothing else."""
    layers = [blob_path(layer.digest) for layer in picked.manifest.layers]
    told = {"Config": blob_path(picked.config.digest), "RepoTags": [picked.reference], "Layers": layers}
    return json.dumps([told]).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _small(bundle: Bundle, spec: ImageSpec, digest: str) -> bytes:
    asset = bundle.index.asset(spec.asset(digest))
    if asset.length_bytes > MANIFEST_BYTES:
        raise BadBundle(f"{asset.path} has {asset.length_bytes} bytes, at most {MANIFEST_BYTES} are read")
    data = bundle.read(asset.path)
    if (found := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
        raise BadBundle(f"{asset.path} is {found}")
    return data


class _AssetFile(io.RawIOBase):
    """An asset as a file that is read once, from its beginning."""

    def __init__(self, bundle: Bundle, asset: Asset, on_bytes: Callable[[int], None]) -> None:
        super().__init__()
        self._bundle, self._chunks, self._on_bytes = bundle, iter(asset.chunks), on_bytes
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._ready = memoryview(bytearray(chunk.length))
            self._bundle.volumes.read_chunk(chunk, self._ready)
            self._on_bytes(chunk.length)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
