"""Copies a repository to a medium for one site: what it lacks, resumable, and read back from the medium itself."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.files import DISK, FileLayer, make_folder, open_regular, read_limited, remove_staged, staged
from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput, NoSpace
from bundler.format.limits import ROOT_ROTATIONS, TARGETS_BYTES
from bundler.format.trust.descriptors import newest_descriptor, read_descriptor
from bundler.format.trust.medium import check_file
from bundler.format.trust.verify import TargetFile, TrustedRepository
from bundler.terminal import Terminal, size

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Copied:
    """What a copy did; `left_out` are volumes that the site has from earlier copies."""

    bundle: str
    files: int
    written_bytes: int
    kept_bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """A file to copy, with its length and digest, be they signed or just taken."""

    path: str
    target: TargetFile


def copy_for_site(
    folder: Path,
    trusted: TrustedRepository,
    site: str,
    delivered: Collection[str],
    medium: Path,
    terminal: Terminal,
    layer: FileLayer = DISK,
) -> Copied:
    """Copies the newest bundle that may be installed, and what a site needs to take it.

    Args:
        folder: The repository.
        trusted: Its verified metadata.
        site: Its name.
        delivered: Bundles that the site has got before; their volumes are left out.
        medium: Where to; a copy that was stopped goes on.
        terminal: Progress.
        layer: Where faults can be put.

    Raises:
        BadInput: There is no such site, or no bundle that may be installed.
        NoSpace: It does not fit; nothing was written.
        BadBundle: The repository is damaged, or the medium returns other bytes than were written.
    """
    descriptor = newest_descriptor(folder, trusted)
    if descriptor is None:
        raise BadInput(f"{folder} holds no bundle that may be installed", "run `lifeboat build` first")
    if not (folder / "sites" / site).is_dir():
        raise BadInput(f"{folder} has no site {site}", "see `lifeboat site list`")
    had = _volumes_of(folder, trusted, delivered)
    left_out = tuple(volume.path for volume in descriptor.volumes if volume.path in had)
    wanted = [f"bundles/{descriptor.bundle}/bundle.json", descriptor.index.path]
    wanted += [volume.path for volume in descriptor.volumes if volume.path not in had]
    wanted += [path for path in trusted.targets if not path.startswith(("bundles/", "sites/"))]
    files = [_File(path, trusted.targets[path]) for path in wanted]
    wanted_settings = f"sites/{site}/settings.age"
    files += [_hashed(folder, f"sites/{site}/{name}") for name in ("enroll.age", "keys.age")]
    files += [_File(wanted_settings, trusted.targets[wanted_settings])] if wanted_settings in trusted.targets else []
    files += [_hashed(folder, path) for path in _metadata(folder, trusted)]
    make_folder(medium, layer)
    for top in ("metadata", "bundles", "sites", "runtime"):  # what a copy that was killed left there
        remove_staged(medium / top)
    _check_space(files, medium)
    total = sum(file.target.length for file in files)
    written = 0
    with terminal.progress(f"copying {size(total)}", 2 * total) as progress:
        for file in files:
            written += _copy(folder, medium, file, progress.advance, layer)
    return Copied(descriptor.bundle, len(files), written, total - written, left_out)


def _volumes_of(folder: Path, trusted: TrustedRepository, bundles: Collection[str]) -> set[str]:
    found: set[str] = set()
    for bundle in bundles:
        path = f"bundles/{bundle}/bundle.json"
        if path in trusted.targets:
            found |= {volume.path for volume in read_descriptor(folder, trusted, path).volumes}
    return found


def _metadata(folder: Path, trusted: TrustedRepository) -> Iterator[str]:
    """All roots, then the current roles; the timestamp last, so that a stopped copy is never taken for a whole one."""
    for version in range(1, ROOT_ROTATIONS + 1):
        path = f"metadata/{version}.root.json"
        if not (folder / path).exists():
            break
        yield path
    for role in ("targets", "content", "snapshot"):
        yield f"metadata/{trusted.metadata_name(role)}"
    yield "metadata/timestamp.json"


def _hashed(folder: Path, path: str) -> _File:
    data = read_limited(paths.inside(folder, path), TARGETS_BYTES)
    return _File(path, TargetFile(len(data), hashlib.sha256(data).hexdigest()))


def _check_space(files: Sequence[_File], medium: Path) -> None:
    lacking = [file for file in files if not _has_size(paths.inside(medium, file.path), file.target.length)]
    # A replaced file lies beside the new one until the rename.
    need = sum(file.target.length for file in lacking) + 64 * 2**20 * any(lacking)
    free = shutil.disk_usage(medium).free
    if need > free:
        raise NoSpace(f"{medium} has {size(free)} free, {size(need)} are needed")


def _has_size(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size == length


def _copy(folder: Path, medium: Path, file: _File, on_bytes: Callable[[int], None], layer: FileLayer) -> int:
    """Copies one file unless the medium has it, and reads it back; returns the bytes written."""
    target = paths.inside(medium, file.path)  # a stick that comes back may hold links that lead elsewhere
    if _has_size(target, file.target.length) and _reads_back(medium, file, on_bytes):
        on_bytes(file.target.length)
        return 0
    check = hashlib.sha256()
    with open_regular(paths.inside(folder, file.path)) as source, staged(target, layer=layer) as out:
        while block := source.read(_BLOCK_BYTES):
            check.update(block)
            out.write(block)
            on_bytes(len(block))
        if check.hexdigest() != file.target.sha256:
            raise BadBundle(f"{file.path} in the repository is not what was signed", "restore the repository")
    if not _reads_back(medium, file, on_bytes):
        raise BadBundle(
            f"the medium does not return what was written to it: {_told(file.path)}",
            "run the same command again; if it happens twice, use another medium",
        )
    return file.target.length


def _reads_back(medium: Path, file: _File, on_bytes: Callable[[int], None]) -> bool:
    """Reads from the medium and not from memory: the page cache would repeat what was written, not what is there."""
    with open_regular(medium / file.path) as written:
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        check_file(medium, file.path, file.target, on_bytes)
    except BadBundle:
        return False
    return True


def _told(path: str) -> str:
    """Names a file as a technician knows it."""
    parts = path.split("/")
    return f"copy volume {int(parts[3].split('.')[0])} again ({path})" if "vol" in parts else f"copy {path} again"
