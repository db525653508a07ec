"""Blobs of registries that were fetched, by their digest: HOME/cache/registry/blobs/sha256/HEX.

Nothing in it is believed: a blob is hashed before each build that uses it, and one that is damaged is fetched again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bundler.files import write_atomic
from bundler.format.oci import MANIFEST_BYTES, Descriptor


@dataclass(frozen=True)
class Blobs:
    """The cache of one builder.

    Attributes:
        folder: HOME/cache/registry.
    """

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "blobs"

    def path(self, digest: str) -> Path:
        return self.root / digest.replace(":", "/")

    def small(self, digest: str) -> bytes | None:
        """Returns a manifest or config that is here as it was, or None."""
        path = self.path(digest)
        if not path.is_file() or path.stat().st_size > MANIFEST_BYTES:
            return None
        data = path.read_bytes()
        return data if digest_of(data) == digest else None

    def keep(self, data: bytes) -> str:
        """Keeps a manifest or config; returns its digest."""
        digest = digest_of(data)
        if self.small(digest) is None:
            write_atomic(self.path(digest), data)
        return digest

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is here as its manifest says; what is here and is not is removed."""
        path = self.path(blob.digest)
        try:
            with path.open("rb") as file:
                sound = path.stat().st_size == blob.length_bytes
                if sound and hashlib.file_digest(file, "sha256").hexdigest() == blob.hex:
                    return True
        except FileNotFoundError:
            return False
        path.unlink()
        return False


def digest_of(data: bytes) -> str:
    """Returns the digest as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
