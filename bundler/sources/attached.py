"""Signatures and other statements about an image or artifact, as registries keep them beside it. Pure.

cosign: `sha256-HEX.sig`, `.att` and `.sbom` (sigstore/cosign, specs/SIGNATURE_SPEC.md). OCI 1.1: the referrers of a
digest, which a registry lists (`referrers`), or clients do under the tag `sha256-HEX` (distribution-spec, "Referrers
Tag Schema"). Not kept: simple-signing files.
"""

from __future__ import annotations

from dataclasses import dataclass

from bundler.format.errors import BadInput

LOOKED_FOR = (".sig", ".att", ".sbom", "")
_BYTES = 256 << 20
# What `cosign save` writes into the index of a layout, and `cosign verify --local-image` looks for.
KINDS = {".sig": "dev.cosignproject.cosign/sigs", ".att": "dev.cosignproject.cosign/atts"}
IMAGE, INDEX = "dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"


@dataclass(frozen=True)
class Attachment:
    """A manifest, or an index, that is attached to an image or artifact; `tag` is what the registry calls it."""

    tag: str
    media_type: str
    digest: str
    length_bytes: int

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    @property
    def kind(self) -> str:
        """What cosign calls it, or ""."""
        return next((kind for suffix, kind in KINDS.items() if self.tag.endswith(suffix)), "")


def tag_of(digest: str, suffix: str) -> str:
    """Returns the tag under which what is attached to a digest lies."""
    return digest.replace(":", "-") + suffix


def bounded(what: str, length_bytes: int) -> None:
    """Raises BadInput where so much is attached that it is something else."""
    if length_bytes > _BYTES:
        raise BadInput(f"{what} would bring {length_bytes} bytes of attachments, at most {_BYTES} are taken")
