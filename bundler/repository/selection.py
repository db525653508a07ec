"""Which files of a repository a site needs, with the lengths and digests by which they are known."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.files import read_limited
from bundler.format import paths
from bundler.format.errors import BadInput
from bundler.format.limits import ROOT_ROTATIONS, TARGETS_BYTES
from bundler.format.manifest import Descriptor
from bundler.format.software import software_for_box
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.verify import TargetFile, TrustedRepository


@dataclass(frozen=True)
class Selected:
    """A file to carry, with its length and digest, be they signed or just taken."""

    path: str
    target: TargetFile


def newest(folder: Path, trusted: TrustedRepository) -> Descriptor:
    """Returns the descriptor of the newest bundle that may be installed; raises BadInput where there is none."""
    descriptor = newest_descriptor(folder, trusted)
    if descriptor is None:
        raise BadInput(f"{folder} holds no bundle that may be installed", "run `lifeboat build` first")
    return descriptor


def content_paths(trusted: TrustedRepository, descriptor: Descriptor, had: Collection[str] = ()) -> list[str]:
    """Returns the paths of a bundle and of the newest software, but for volumes that the site `had`."""
    own = f"bundles/{descriptor.bundle}"  # descriptor, index, and what is shown to who has no key
    wanted = sorted(path for path in trusted.targets if path.rpartition("/")[0] == own)
    wanted += [volume.path for volume in descriptor.volumes if volume.path not in had]
    return wanted + software_for_box(trusted.targets)


def content_files(trusted: TrustedRepository, descriptor: Descriptor, had: Collection[str] = ()) -> list[Selected]:
    """Returns the files of `content_paths`."""
    return [Selected(path, trusted.targets[path]) for path in content_paths(trusted, descriptor, had)]


def site_files(folder: Path, trusted: TrustedRepository, site: str) -> list[Selected]:
    """Returns the files of one site.

    Raises:
        BadInput: There is no such site.
    """
    if not (folder / "sites" / site).is_dir():
        raise BadInput(f"{folder} has no site {site}", "see `lifeboat site list`")
    files = [_hashed(folder, f"sites/{site}/{name}") for name in ("enroll.age", "keys.age")]
    settings = f"sites/{site}/settings.age"
    return files + ([Selected(settings, trusted.targets[settings])] if settings in trusted.targets else [])


def metadata_files(folder: Path, trusted: TrustedRepository) -> list[Selected]:
    """Returns the files of `metadata_paths`."""
    return [_hashed(folder, path) for path in metadata_paths(folder, trusted)]


def metadata_paths(folder: Path, trusted: TrustedRepository) -> Iterator[str]:
    """All roots, then the current roles; the timestamp last, so that a stopped copy is never taken for a whole one."""
    for version in range(1, ROOT_ROTATIONS + 1):
        path = f"metadata/{version}.root.json"
        if not (folder / path).exists():
            break
        yield path
    for role in ("targets", "content", "snapshot"):
        yield f"metadata/{trusted.metadata_name(role)}"
    yield "metadata/timestamp.json"


def _hashed(folder: Path, path: str) -> Selected:
    data = read_limited(paths.inside(folder, path), TARGETS_BYTES)
    return Selected(path, TargetFile(len(data), hashlib.sha256(data).hexdigest()))
