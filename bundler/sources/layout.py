"""A container image as it was fetched, or what is attached to an artifact."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.format.oci import Descriptor
from bundler.sources.attached import Attachment
from bundler.sources.blobs import Blobs


@dataclass(frozen=True)
class Layout:
    """What belongs into an OCI layout, all of it in the cache.

    Attributes:
        top: The manifest, or the index of all platforms.
        platform: As it was asked for; "" for an artifact, of which the layout holds the manifest and no file.
        digests: Of every manifest, config and layer, of what is attached, too.
        attachments: Signatures and the like.
        blobs: Where all of it lies.
    """

    top: Descriptor
    platform: str
    digests: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    blobs: Blobs
