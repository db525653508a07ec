"""Copies a repository to a medium for one site: what it lacks, resumable, and read back from the medium itself."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.files import DISK, FileLayer, make_folder, open_regular, read_limited, remove_staged, staged
from bundler.format import paths, strict_json
from bundler.format.errors import BadBundle, BadInput, NoSpace
from bundler.format.limits import ROOT_BYTES, TIMESTAMP_BYTES
from bundler.format.software import RUNTIME, software_for_box
from bundler.format.trust.descriptors import read_descriptor
from bundler.format.trust.medium import check_file, load_repository
from bundler.format.trust.policy import REPOSITORY
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.delivery import write_delivery
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger, write_ledger
from bundler.repository.publish import Publisher
from bundler.repository.selection import Selected, content_files, metadata_files, newest, site_files
from bundler.repository.sweep import remove, unlisted
from bundler.terminal import Terminal, size

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Copied:
    """What a copy did; `left_out` are volumes that the site has from earlier copies, and are not on this medium."""

    site: str
    bundle: str
    files: int
    written_bytes: int
    kept_bytes: int
    left_out: tuple[str, ...]
    left_out_bytes: int


def copy_for_site(
    folder: Path,
    trusted: TrustedRepository,
    site: str,
    delivered: Collection[str],
    medium: Path,
    terminal: Terminal,
    layer: FileLayer = DISK,
    volumes: Collection[str] = (),
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
        volumes: More volumes that the site has got.

    Raises:
        BadInput: There is no such site, or no bundle that may be installed.
        NoSpace: It does not fit; nothing was written.
        BadBundle: The repository is damaged, or the medium returns other bytes than were written.
    """
    descriptor = newest(folder, trusted)
    own = site_files(folder, trusted, site)
    had = {*_volumes_of(folder, trusted, delivered), *volumes}
    lacking = (volume for volume in descriptor.volumes if volume.path in had)
    left_out = tuple(v for v in lacking if not has_size(paths.inside(medium, v.path), v.length_bytes))
    files = [*content_files(trusted, descriptor, had), *own, *metadata_files(folder, trusted)]
    make_folder(medium, layer)
    for top in ("metadata", "bundles", "sites", "runtime"):  # what a copy that was killed left there
        if not (medium / top).is_symlink():
            remove_staged(medium / top)
    check_space(files, medium)
    total = sum(file.target.length for file in files)
    written = 0
    with terminal.progress(f"copying {size(total)}", 2 * total) as progress:
        for file in files:
            written += _copy(folder, medium, file, progress.advance, layer)
    return Copied(
        site,
        descriptor.bundle,
        len(files),
        written,
        total - written,
        tuple(volume.path for volume in left_out),
        sum(volume.length_bytes for volume in left_out),
    )


def copy_for_sites(
    publisher: Publisher,
    keyring: Keyring,
    sites: Sequence[str],
    medium: Path,
    terminal: Terminal,
    *,
    now: datetime,
    full: bool = False,
    layer: FileLayer = DISK,
) -> list[Copied]:
    """Copies for several sites and, once the medium is whole, notes in the ledger what each got.

    The caller holds the repository's lock.

    Args:
        publisher: Of the repository.
        keyring: Opens the ledger.
        sites: Their names.
        medium: Where to.
        terminal: Progress.
        now: The clock.
        full: Also volumes that a site got by earlier copies.
        layer: Where faults can be put.

    Raises:
        BadInput: The medium lies in the repository or holds another one, or as `copy_for_site`.
        NoSpace, BadBundle: As `copy_for_site`.
    """
    folder = publisher.folder.resolve()
    if medium.resolve() == folder or folder in medium.resolve().parents or medium.resolve() in folder.parents:
        raise BadInput(f"{medium} and the repository lie in each other", "name a folder on the medium")
    trusted = publisher.trusted()
    check_medium(medium, publisher.first_root(), trusted.policy.repository)
    ledger, done = read_ledger(keyring, trusted.policy.repository), []
    for name in sites:
        known = ledger.site(name)
        had, more = ((), ()) if full else (known.delivered[-1:], known.volumes)
        done.append(copy_for_site(publisher.folder, trusted, name, had, medium, terminal, layer, more))
    prune(trusted, medium, layer)
    write_delivery(medium, trusted.targets, layer)
    # The last word has a reader that starts where a new box does.
    load_repository(medium, root=publisher.first_root(), repository=None, now=now, remembered=None)
    # Only now: volumes that the ledger takes for delivered are left out of later copies.
    for copied in done:
        ledger = ledger.with_site(ledger.site(copied.site).with_delivery(copied.bundle))
    write_ledger(keyring, ledger, layer)
    return done


def check_medium(medium: Path, first_root: bytes, repository: str) -> None:
    """Refuses a medium that holds somebody else's repository: one folder holds one, and a copy would spoil it."""
    if not (medium / "metadata" / "timestamp.json").exists():
        return
    root = medium / "metadata" / "1.root.json"
    try:
        ours = read_limited(root, ROOT_BYTES) == first_root
        stated = strict_json.parse(read_limited(medium / "metadata" / "timestamp.json", TIMESTAMP_BYTES))
        found = stated["signed"][REPOSITORY]
    except (BadBundle, ValueError, KeyError, TypeError):
        return  # damaged: it is written anew, and read back
    if not ours or found != repository:
        raise BadInput(f"{medium} holds another repository", "name a new folder on the medium")


def prune(trusted: TrustedRepository, medium: Path, layer: FileLayer = DISK) -> None:
    """Removes what earlier copies left: superseded metadata and programs, files of removed bundles and sites."""
    current = {trusted.metadata_name(role) for role in ("snapshot", "targets", "content")}
    for path in (medium / "metadata").glob("*.json"):
        if re.fullmatch(r"[0-9]+\.(snapshot|targets|content)\.json", path.name) and path.name not in current:
            path.unlink()
    needed = {Path(path).parent.name for path in software_for_box(trusted.targets)}
    for folder in own_folders(medium / RUNTIME):
        if folder.name not in needed:
            shutil.rmtree(folder)
    for site in own_folders(medium / "sites"):
        if f"sites/{site.name}/settings.age" not in trusted.targets:
            shutil.rmtree(site)
    remove(medium, unlisted(medium, trusted.targets), layer)


def own_folders(top: Path) -> list[Path]:
    """Returns the folders in a folder of a medium, but nothing that a link leads to: it lies elsewhere."""
    if top.is_symlink():
        return []
    return [path for path in top.glob("*") if path.is_dir() and not path.is_symlink()]


def _volumes_of(folder: Path, trusted: TrustedRepository, bundles: Collection[str]) -> set[str]:
    found: set[str] = set()
    for bundle in bundles:
        path = f"bundles/{bundle}/bundle.json"
        if path in trusted.targets:
            found |= {volume.path for volume in read_descriptor(folder, trusted, path).volumes}
    return found


def check_space(files: Sequence[Selected], medium: Path) -> None:
    lacking = [file for file in files if not has_size(paths.inside(medium, file.path), file.target.length)]
    # A replaced file lies beside the new one until the rename.
    need = sum(file.target.length for file in lacking) + 64 * 2**20 * any(lacking)
    require_space(medium, need)


def require_space(medium: Path, need: int) -> None:
    """Raises `NoSpace` where a medium lacks so many bytes."""
    free = shutil.disk_usage(medium).free
    if need > free:
        told = f"{medium} has {size(free)} free, {size(need)} are needed ({size(need - free)} more)"
        raise NoSpace(told, "free that much there, or take a larger medium; what lies there already is not counted")


def has_size(path: Path, length: int) -> bool:
    return path.is_file() and path.stat().st_size == length


def _copy(folder: Path, medium: Path, file: Selected, on_bytes: Callable[[int], None], layer: FileLayer) -> int:
    """Copies one file unless the medium has it, and reads it back; returns the bytes written."""
    target = paths.inside(medium, file.path)  # a stick that comes back may hold links that lead elsewhere
    if has_size(target, file.target.length) and reads_back(medium, file, on_bytes):
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
    if not reads_back(medium, file, on_bytes):
        raise BadBundle(
            f"the medium does not return what was written to it: {_told(file.path)}",
            "run the same command again; if it happens twice, use another medium",
        )
    return file.target.length


def reads_back(medium: Path, file: Selected, on_bytes: Callable[[int], None]) -> bool:
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
