"""Descriptors of the bundles that a repository lists: read once, and all that SPEC section 4 asks of them checked."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bundler.files import read_limited
from bundler.format import paths
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.limits import DESCRIPTOR_BYTES
from bundler.format.manifest import Descriptor, FileDigest, Volume, decode_descriptor, order_of
from bundler.format.trust.policy import may_install
from bundler.format.trust.verify import TrustedRepository, digest


def descriptor_paths(trusted: TrustedRepository) -> list[str]:
    """Returns the paths of all descriptors, oldest bundle first; the order stands in the signed path."""
    found = [path for path in trusted.targets if path.startswith("bundles/") and path.endswith("/bundle.json")]
    return sorted(found, key=lambda path: order_of(path.split("/")[1]))


def read_descriptor(folder: Path, trusted: TrustedRepository, path: str) -> Descriptor:
    """Reads one descriptor.

    The bytes that are decoded are those that were hashed: a hostile device answers a second read as it likes.

    Raises:
        FileMissing: It is not there.
        BadBundle: It is not what was signed, of another bundle or repository, or names a file that is not signed.
    """
    try:
        data = read_limited(paths.inside(folder, path), DESCRIPTOR_BYTES)
    except FileMissing:
        raise FileMissing(f"{path} is missing", "copy this file to the medium again") from None
    target = trusted.targets[path]
    if (len(data), digest(data)) != (target.length, target.sha256):
        raise BadBundle(f"{path} is not what was signed", "copy this file to the medium again")
    descriptor = decode_descriptor(data)
    if (descriptor.repository, descriptor.bundle) != (trusted.policy.repository, path.split("/")[1]):  # 4.1
        raise BadBundle(f"{path} describes bundle {descriptor.bundle} of repository {descriptor.repository}")
    files: list[FileDigest | Volume] = [descriptor.index, *descriptor.volumes]
    for file in files:  # 4.2
        signed = trusted.targets.get(file.path)
        if signed is None or (signed.length, signed.sha256) != (file.length_bytes, file.sha256):
            raise BadBundle(f"{descriptor.bundle} names {file.path}, which is not signed as such")
    return descriptor


def read_descriptors(
    folder: Path, trusted: TrustedRepository, left_out: Collection[str] = frozenset()
) -> list[Descriptor]:
    """Returns all descriptors, oldest first, but for those that a copy left out and that are not there."""
    here = [path for path in descriptor_paths(trusted) if path not in left_out or (folder / path).exists()]
    return [read_descriptor(folder, trusted, path) for path in here]


def newest_descriptor(folder: Path, trusted: TrustedRepository) -> Descriptor | None:
    """Returns the newest one that the policy lets be installed, or None."""
    found = [path for path in descriptor_paths(trusted) if may_install(path.split("/")[1], trusted.policy)]
    return read_descriptor(folder, trusted, found[-1]) if found else None
