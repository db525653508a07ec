"""A container image of a bundle: an OCI image layout under `images/NAME` (SPEC.md 6). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundler.format.errors import BadBundle
from bundler.format.oci import ALL, PLATFORM

NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageSpec:
    """An image that the box hands to podman or docker; it never starts one.

    Attributes:
        name: What it is called on the box: `localhost/lifeboat/NAME`.
        prefix: The folder of its layout: `oci-layout`, `index.json` and `blobs/sha256/...` lie there.
        digest: "sha256:..." of the manifest, or of the index where `platform` is `oci.ALL`.
        platform: Such as "linux/amd64", or `oci.ALL`.
    """

    name: str
    prefix: str
    digest: str
    platform: str

    def asset(self, digest: str) -> str:
        """Returns the asset that holds a blob."""
        return f"{self.prefix}/{blob_path(digest)}"


def blob_path(digest: str) -> str:
    """Returns where a blob lies in a layout (image-spec, image-layout.md)."""
    return f"blobs/{digest.replace(':', '/')}"


def check_images(images: tuple[ImageSpec, ...], assets: frozenset[str]) -> None:
    """Raises BadBundle where an image is not as a builder writes it, or its manifest is not there."""
    for image in images:
        if not NAME.fullmatch(image.name) or image.prefix != f"images/{image.name}":
            raise BadBundle(f"the image {image.name!r} lies in {image.prefix!r}, which cannot be")
        if not _DIGEST.fullmatch(image.digest) or not (image.platform == ALL or PLATFORM.fullmatch(image.platform)):
            raise BadBundle(f"the image {image.name} has the digest {image.digest!r} for {image.platform!r}")
        if image.asset(image.digest) not in assets:
            raise BadBundle(f"the image {image.name} lacks its manifest {image.digest}")
    if len({image.name for image in images}) != len(images):
        raise BadBundle("two images have the same name")
