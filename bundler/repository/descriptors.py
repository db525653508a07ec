"""Descriptors of the bundles that a repository lists, checked against their signed targets."""

from __future__ import annotations

from pathlib import Path

from bundler.files import read_limited
from bundler.format import paths
from bundler.format.limits import DESCRIPTOR_BYTES
from bundler.format.manifest import Descriptor, decode_descriptor, order_of
from bundler.format.trust.medium import check_file
from bundler.format.trust.verify import TrustedRepository


def descriptor_paths(trusted: TrustedRepository) -> list[str]:
    """Returns the paths of all descriptors, oldest bundle first."""
    found = [path for path in trusted.targets if path.startswith("bundles/") and path.endswith("/bundle.json")]
    return sorted(found, key=lambda path: order_of(path.split("/")[1]))


def read_descriptor(folder: Path, trusted: TrustedRepository, path: str) -> Descriptor:
    """Reads one descriptor; raises BadBundle or FileMissing if it is not what was signed."""
    check_file(folder, path, trusted.targets[path])
    return decode_descriptor(read_limited(paths.inside(folder, path), DESCRIPTOR_BYTES))


def read_descriptors(folder: Path, trusted: TrustedRepository) -> list[Descriptor]:
    """Returns all descriptors, oldest first."""
    return [read_descriptor(folder, trusted, path) for path in descriptor_paths(trusted)]


def newest_descriptor(folder: Path, trusted: TrustedRepository) -> Descriptor | None:
    """Returns the newest one, or None where the repository lists no bundle."""
    found = descriptor_paths(trusted)
    return read_descriptor(folder, trusted, found[-1]) if found else None
