"""Pulls a repository from a registry into a folder, which is a medium then, as `copy` would have written it.

What a registry returns is hostile until it is proven. In this order: the manifest, size-bounded; the metadata, into a
hidden folder, verified from the root that the caller trusts and against what the folder holds; every other file, which
must be signed or be a site's own, under a hidden name until its digest is right; the metadata last, its timestamp the
very last, so that a stopped pull is never taken for a whole one. Then the folder is read as any medium.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bundler.files import DISK, FileLayer, exclusive, make_folder, read_limited, remove_staged, write_atomic
from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput, SourceFailed
from bundler.format.limits import TARGETS_BYTES
from bundler.format.manifest import is_bundle_id
from bundler.format.trust.medium import check_file, load_repository
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.copy import has_size, own_folders, prune, reads_back, require_space
from bundler.repository.delivery import write_delivery
from bundler.repository.oci.artifact import Stored, decode
from bundler.repository.oci.client import Client
from bundler.repository.oci.partial import Partials
from bundler.repository.oci.proof import Proof, target_of
from bundler.repository.oci.streams import OnBytes, each
from bundler.repository.selection import Selected, metadata_paths
from bundler.terminal import Terminal, size

_HIDDEN, _STAGING, _PARTS = ".pull", "verified", "parts"
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Attributes:
        reference: With the digest of the manifest.
        repository: Its id.
        bundle: The newest that may be installed.
        sites: Whose files lie in the folder.
        files: Their number.
        fetched_bytes: Came from the registry, metadata included.
        kept_bytes: Lay here before, be it in a part.
        warnings: What expires or has expired.
    """

    reference: str
    repository: str
    bundle: str
    sites: tuple[str, ...]
    files: int
    fetched_bytes: int
    kept_bytes: int
    warnings: tuple[str, ...]


def pull(
    client: Client,
    medium: Path,
    terminal: Terminal,
    *,
    root: bytes | None,
    now: datetime,
    sites: Collection[str] = (),
    layer: FileLayer = DISK,
) -> Pulled:
    """Fetches what the folder lacks of an artifact.

    Args:
        client: Of the registry.
        medium: The folder; one that holds an earlier state of the repository is brought up to date.
        terminal: Progress.
        root: The root that is trusted, or None: then the folder's own, and of an empty folder the artifact's.
        now: The clock.
        sites: Whose files to fetch; none means all that the artifact holds.
        layer: Where faults can be put.

    Raises:
        SourceFailed: The registry does not give it; what came is not fetched again.
        BadInput: The folder holds another repository, or is one that a builder writes.
        BadBundle, FileMissing, UnknownRoot: The artifact is not what was signed.
        TooOld: It is older than what the folder holds.
        NoSpace: It does not fit; no large file was fetched.
        Busy: Another pull into this folder is at work.
    """
    if (medium / ".lock").exists():
        raise BadInput(f"{medium} is a repository that a builder writes", "name another folder")
    hidden = medium / _HIDDEN
    for path in (hidden, hidden / _STAGING, hidden / _PARTS):
        if path.is_symlink():  # a stick that comes back may hold links that lead elsewhere
            raise BadBundle(f"{path} is a symbolic link", "remove it, or name another folder")
    make_folder(hidden, layer)
    with exclusive(hidden / "lock", f"another command is pulling into {medium}"):
        remove_staged(hidden)
        try:
            done = _Pull(client, medium, hidden, terminal, layer).run(root, now, sites)
        except BaseException:
            # Parts of large files stay for the next pull; without any, nothing of a failed one does.
            shutil.rmtree(hidden / _STAGING, ignore_errors=True)
            if not any((hidden / _PARTS).glob("*")):
                shutil.rmtree(hidden, ignore_errors=True)
            raise
        shutil.rmtree(hidden)
    return done


class _Pull:
    """One pull, and its folders."""

    def __init__(self, client: Client, medium: Path, hidden: Path, terminal: Terminal, layer: FileLayer) -> None:
        self._client, self._medium, self._terminal, self._layer = client, medium, terminal, layer
        self._proof = Proof(client, medium, hidden / _STAGING, layer)
        self._partials = Partials(hidden / _PARTS, layer)

    def run(self, root: bytes | None, now: datetime, sites: Collection[str]) -> Pulled:
        found = self._client.manifest()
        if found is None:
            raise SourceFailed(f"there is no {self._client.reference}", "check name and tag, and the login")
        files = {file.path: file for file in _of_sites(decode(found[0]).files, sites)}
        if lacking := set(sites) - set(_sites(files)):
            raise BadInput(f"the artifact holds no site {', '.join(sorted(lacking))}", "push it with --site")
        self._proof.begin(files.values())
        start = self._proof.start(root)
        trusted = self._proof.trusted(start, now)
        bundle = self._proof.bundle(files, trusted)
        content = [Selected(path, target_of(files[path], trusted)) for path in self._order(files, trusted)]
        fetched = self._fetch(files, content)
        self._settle(trusted, _sites(files))
        load_repository(self._medium, root=start, repository=None, now=now, remembered=None)
        return Pulled(
            str(self._client.reference.at(found[1])),
            trusted.policy.repository,
            bundle,
            _sites(files),
            len(files),
            self._proof.fetched_bytes + fetched,
            sum(file.target.length for file in content) - fetched,
            trusted.warnings,
        )

    def _order(self, files: Mapping[str, Stored], trusted: TrustedRepository) -> list[str]:
        """Content in the order of a copy: sites after it, so that their settings meet the metadata that follows."""
        metadata = set(metadata_paths(self._proof.folder, trusted))
        return sorted((path for path in files if path not in metadata), key=lambda path: path.startswith("sites/"))

    def _fetch(self, files: Mapping[str, Stored], content: Sequence[Selected]) -> int:
        """Fetches the content; returns how many bytes came."""
        for top in ("metadata", "bundles", "sites", "runtime"):  # what a pull that was killed left there
            if not (self._medium / top).is_symlink():
                remove_staged(self._medium / top)
        make_folder(self._partials.folder, self._layer)
        self._partials.keep({self._partials.path(files[file.path], file.target) for file in content})
        self._check_space(files, content)
        total = sum(file.target.length for file in content)

        def one(file: Selected, tell: OnBytes) -> int:
            return self._fetch_one(files[file.path], file, tell)

        with self._terminal.progress(f"pulling {size(total)}", 2 * total) as progress:
            return each(one, content, progress.advance)

    def _fetch_one(self, file: Stored, selected: Selected, tell: OnBytes) -> int:
        final = paths.inside(self._medium, file.path)  # a stick that comes back may hold links that lead elsewhere
        if has_size(final, file.length_bytes) and reads_back(self._medium, selected, tell):
            tell(file.length_bytes)
            return 0
        return self._partials.fetch(self._client, file, selected.target, final, tell)

    def _check_space(self, files: Mapping[str, Stored], content: Sequence[Selected]) -> None:
        lacking = [file for file in content if not has_size(paths.inside(self._medium, file.path), file.target.length)]
        held = sum(self._partials.held(files[file.path], file.target) for file in lacking)
        need = sum(file.target.length for file in lacking) - held + _SPARE_BYTES * bool(lacking)
        require_space(self._medium, need)

    def _settle(self, trusted: TrustedRepository, sites: Collection[str]) -> None:
        """Puts the metadata in place, its timestamp last, and removes what it no longer knows."""
        # What is not here is told before the timestamp names it, and again when superseded programs have gone.
        write_delivery(self._medium, trusted.targets, self._layer)
        for path in metadata_paths(self._proof.folder, trusted):
            data = read_limited(self._proof.folder / path, TARGETS_BYTES)
            write_atomic(paths.inside(self._medium, path), data, layer=self._layer)
        prune(trusted, self._medium)
        _forget(self._medium, trusted)
        for folder in own_folders(self._medium / "sites"):
            if folder.name not in sites and not _is_current(self._medium, folder.name, trusted):
                shutil.rmtree(folder)  # what an earlier pull brought, of before its settings changed
        write_delivery(self._medium, trusted.targets, self._layer)


def _of_sites(files: Iterable[Stored], sites: Collection[str]) -> Iterator[Stored]:
    for file in files:
        parts = file.path.split("/")
        if parts[0] != "sites" or not sites or parts[1] in sites:
            yield file


def _sites(files: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted({path.split("/")[1] for path in files if path.startswith("sites/")}))


def _forget(medium: Path, trusted: TrustedRepository) -> None:
    """Removes files of bundles that the repository no longer lists, or a folder that is kept up to date only grows."""
    for folder in (medium / "bundles").glob("*"):
        if not is_bundle_id(folder.name) or folder.is_symlink():
            continue
        for path in sorted(folder.rglob("*"), reverse=True):  # what lies in a folder comes before it
            if path.is_dir() and not path.is_symlink():
                with suppress(OSError):  # it still holds something
                    path.rmdir()
            elif path.relative_to(medium).as_posix() not in trusted.targets:
                path.unlink()
        with suppress(OSError):
            folder.rmdir()


def _is_current(medium: Path, site: str, trusted: TrustedRepository) -> bool:
    path = f"sites/{site}/settings.age"
    try:
        check_file(medium, path, trusted.targets[path])
    except BadBundle:
        return False
    return True
