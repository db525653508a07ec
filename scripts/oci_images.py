"""Small container images, indexes and artifacts made by hand, and pushed to a registry over plain HTTP on loopback."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MANIFEST, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
NOBODY: Mapping[str, Any] = {}
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Packs files in order, without times or owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@dataclass
class Pusher:
    """Pushes to one repository of a registry.

    Attributes:
        host: "127.0.0.1:PORT".
        name: The repository.
    """

    host: str
    name: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Pushes a blob; returns its descriptor, with what else is given."""
        digest = digest_of(data)
        place = self._ask("POST", f"/v2/{self.name}/blobs/uploads/", 202).getheader("Location") or ""
        path = place.partition(self.host)[2] or place
        self._ask("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", 201, data, "application/octet-stream")
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def manifest(self, value: Mapping[str, Any], tag: str = "") -> dict[str, Any]:
        """Pushes a manifest or an index, under a tag where one is given; returns its descriptor."""
        data = json.dumps(value).encode()
        media_type = value["mediaType"]
        self._ask("PUT", f"/v2/{self.name}/manifests/{tag or digest_of(data)}", 201, data, media_type)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def image(
        self, files: Mapping[str, bytes], tag: str = "", architecture: str = "amd64", *, docker: bool = False
    ) -> dict[str, Any]:
        """Pushes an image of one layer; returns its descriptor, with its platform."""
        plain = tar_of(files)
        layer = self.blob(gzip.compress(plain, mtime=0), DOCKER_LAYER if docker else LAYER)
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/nothing"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(plain)]},
        }
        value = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else MANIFEST,
            "config": self.blob(json.dumps(config).encode(), DOCKER_CONFIG if docker else CONFIG),
            "layers": [layer],
        }
        return self.manifest(value, tag) | {"platform": {"os": "linux", "architecture": architecture}}

    def index(self, manifests: Sequence[Mapping[str, Any]], tag: str = "") -> dict[str, Any]:
        """Pushes an index of manifests that are there."""
        return self.manifest({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}, tag)

    def artifact(
        self, layers: Sequence[Mapping[str, Any]], tag: str = "", kind: str = EMPTY, subject: Mapping[str, Any] = NOBODY
    ) -> dict[str, Any]:
        """Pushes an artifact of layers that are there, attached to a subject where one is given."""
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": self.blob(b"{}", kind),
            "layers": list(layers),
        }
        told = {key: subject[key] for key in ("mediaType", "digest", "size") if key in subject}
        return self.manifest({**value, **({"subject": told} if told else {})}, tag)

    def _ask(
        self, method: str, path: str, expected: int, data: bytes | None = None, media_type: str = ""
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            headers = {**self.headers, **({"Content-Type": media_type} if media_type else {})}
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if answer.status != expected:
            raise RuntimeError(f"{method} {path}: {answer.status} {told[:300]!r}")
        return answer
