"""`inspect` and `verify`: what a repository holds, and whether it is whole. Neither changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bundler.capture.chat_template import changes
from bundler.difference import AssetChange, Difference, compare
from bundler.export import export
from bundler.format.bundle import Bundle, check_chunks, open_bundle
from bundler.format.content import content_of
from bundler.format.errors import BadBundle, BadInput
from bundler.format.manifest import Descriptor
from bundler.format.software import programs
from bundler.format.trust.descriptors import read_descriptors
from bundler.format.trust.medium import check_file, find_root, load_repository, oldest_root
from bundler.format.trust.policy import may_install
from bundler.format.trust.verify import TrustedRepository, digest
from bundler.models.templates import template_in
from bundler.repository.delivery import left_out
from bundler.repository.reuse import Earlier
from bundler.terminal import Terminal, size

NO_ROOT = "without a root that you trust this proves that nothing broke, not who signed it"


@dataclass(frozen=True)
class Verified:
    """What a verification covered.

    Attributes:
        root_sha256: Digest of the root in force.
        pinned: Whether the check started from a root that the caller trusts.
        bundles: Their ids.
        left_out: Signed files that a copy did not take along: older bundles, and volumes that the site has.
        files: How many were checked.
        length_bytes: Their size.
        software: Versions of the programs that are listed.
        deep: Whether every chunk of the bundles that are here whole was decrypted and checked.
        warnings: What expires or has expired.
    """

    root_sha256: str
    pinned: bool
    bundles: tuple[str, ...]
    left_out: int
    files: int
    length_bytes: int
    software: tuple[str, ...]
    deep: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """One bundle as it can be shown; `assets` and `content_sha256` are empty without a key, `allowed` by the policy."""

    bundle: str
    made: str
    length_bytes: int
    volumes: int
    allowed: bool
    assets: tuple[str, ...]
    content_sha256: str = ""
    beside: tuple[str, ...] = ()


def trust(folder: Path, root_sha256: str | None, now: datetime) -> TrustedRepository:
    """Verifies the metadata, from the pinned root or, where none is given, from the medium's own first root."""
    root = oldest_root(folder) if root_sha256 is None else find_root(folder, root_sha256)
    return load_repository(folder, root=root, repository=None, now=now, remembered=None)


def verify(
    folder: Path,
    root_sha256: str | None,
    identities: Callable[[str], dict[str, str]] | None,
    now: datetime,
    terminal: Terminal,
) -> Verified:
    """Checks every signed file, and with keys every chunk.

    Args:
        folder: The repository.
        root_sha256: Digest of the root that is trusted, or None.
        identities: Returns the bundle identities of a repository by its id; None for the check without keys.
        now: The clock.
        terminal: Progress.

    Raises:
        UnknownRoot, MetadataExpired, FileMissing, BadBundle, WrongKey: The first thing found wrong.
    """
    trusted = trust(folder, root_sha256, now)
    omitted = {path for path in left_out(folder) if not (folder / path).exists()}
    targets = {path: target for path, target in trusted.targets.items() if path not in omitted}
    total = sum(target.length for target in targets.values())
    with terminal.progress(f"checking {size(total)}", total) as progress, ThreadPoolExecutor(_threads()) as pool:
        # The largest first, so that no thread is left alone with a long file at the end.
        order = sorted(targets.items(), key=lambda item: (-item[1].length, item[0]))
        list(pool.map(lambda item: check_file(folder, item[0], item[1], progress.advance), order))
    descriptors = read_descriptors(folder, trusted, omitted)
    if identities is not None:
        keys = identities(trusted.policy.repository)
        for descriptor in descriptors:
            if any(volume.path in omitted for volume in descriptor.volumes):
                continue
            with open_bundle(folder, descriptor, keys) as bundle:
                length = sum(asset.length_bytes for asset in bundle.index.assets)
                with terminal.progress(f"opening {descriptor.bundle}", length) as progress:
                    check_chunks(bundle, progress.advance, _threads())
        if unsigned := leftovers(folder, trusted):
            raise BadBundle(f"files that nobody signed: {', '.join(unsigned[:5])}", "remove them, or build again")
    return Verified(
        root_sha256=digest(trusted.root),
        pinned=root_sha256 is not None,
        bundles=tuple(descriptor.bundle for descriptor in descriptors),
        left_out=len(omitted & trusted.targets.keys()),
        files=len(targets),
        length_bytes=total,
        software=tuple(programs(trusted.targets)),
        deep=identities is not None,
        warnings=trusted.warnings,
    )


def leftovers(folder: Path, trusted: TrustedRepository) -> list[str]:
    """Returns files under `bundles`, `sites` and `runtime` that are neither signed nor a site's own two."""
    found = []
    for top in ("bundles", "sites", "runtime"):
        for path in sorted((folder / top).rglob("*")):
            name = path.relative_to(folder).as_posix()
            own = top == "sites" and path.name in ("enroll.age", "keys.age")
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)  # 1.5: not part of it
            if not path.is_dir() and not own and not hidden and name not in trusted.targets:
                found.append(name)
    return found


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def difference(
    folder: Path,
    root_sha256: str | None,
    old: str | None,
    new: str | None,
    identities: Callable[[str], dict[str, str]],
    now: datetime,
) -> Difference:
    """Compares two bundles by id; without ids, the newest with the one before it.

    Raises:
        BadInput: There is no such bundle, or only one.
    """
    trusted = trust(folder, root_sha256, now)
    listed = {descriptor.bundle: descriptor for descriptor in read_descriptors(folder, trusted, left_out(folder))}
    order = list(listed)
    wanted = [old or (order[-2] if len(order) > 1 else ""), new or (order[-1] if order else "")]
    if lacking := [bundle for bundle in wanted if bundle not in listed]:
        if not all(lacking):
            raise BadInput(f"{folder} holds fewer than two bundles: there is nothing to compare")
        raise BadInput(f"{folder} lists no bundle {', '.join(lacking)}", "see `lifeboat inspect`")
    keys = identities(trusted.policy.repository)
    with open_bundle(folder, listed[wanted[0]], keys) as one, open_bundle(folder, listed[wanted[1]], keys) as two:
        before, after = (Earlier(found.descriptor, found.index) for found in (one, two))
        found = compare(before, after, one.read, two.read)
        return replace(found, assets=tuple(_with_template(item, one, two) for item in found.assets))


def _with_template(item: AssetChange, one: Bundle, two: Bundle) -> AssetChange:
    """A model that changed says how its chat template did, which decides what it is told."""
    if item.change != "changed" or not item.path.endswith(".gguf"):
        return item
    before, now = (template_in(bundle.reader(item.path)) for bundle in (one, two))
    lines = changes(item.path, before, now)
    told = ("the chat template changed:", *lines) if lines else ("the chat template is the same",)
    return replace(item, entries=(*item.entries, *told))


def open_listed(
    folder: Path,
    root_sha256: str | None,
    bundle: str | None,
    identities: Callable[[str], dict[str, str]],
    now: datetime,
) -> Bundle:
    """Opens a bundle by id, or the newest one; the caller closes it.

    Raises:
        BadInput: There is no such bundle.
    """
    trusted = trust(folder, root_sha256, now)
    listed = {descriptor.bundle: descriptor for descriptor in read_descriptors(folder, trusted, left_out(folder))}
    wanted = bundle or (list(listed)[-1] if listed else "")
    if wanted not in listed:
        raise BadInput(f"{folder} lists no bundle {wanted}".rstrip(), "see `lifeboat inspect`")
    return open_bundle(folder, listed[wanted], identities(trusted.policy.repository))


def export_assets(bundle: Bundle, target: Path, wanted: Collection[str], terminal: Terminal) -> list[Path]:
    """Writes assets out as plain files; see `bundler.export`."""
    total = sum(asset.length_bytes for asset in bundle.index.assets if not wanted or asset.path in wanted)
    with terminal.progress(f"writing {size(total)}", total) as progress:
        return export(bundle, target, wanted, progress.advance, _threads())


def export_store(bundle: Bundle, target: Path, name: str, form: str, terminal: Terminal) -> list[Path]:
    """Writes a collection out as a vector store; see `bundler.restore`."""
    from bundler.restore import collection_of, restore

    found = collection_of(bundle, name)
    terminal.note(f"writing {len(found.ids)} rows of {name} as {form}")
    return restore(found, form, target, name)


def summaries(
    folder: Path, root_sha256: str | None, identities: Callable[[str], dict[str, str]] | None, now: datetime
) -> tuple[Summary, ...]:
    """Describes the bundles, oldest first; with keys also their assets. Metadata is verified, volumes are not read."""
    trusted = trust(folder, root_sha256, now)
    keys = identities(trusted.policy.repository) if identities is not None else None
    found = read_descriptors(folder, trusted, left_out(folder))
    return tuple(_summary(folder, descriptor, trusted, keys) for descriptor in found)


def _summary(folder: Path, descriptor: Descriptor, trusted: TrustedRepository, keys: dict[str, str] | None) -> Summary:
    assets: tuple[str, ...] = ()
    content = ""
    if keys is not None:
        with open_bundle(folder, descriptor, keys) as bundle:
            content = content_of(bundle.index)
            assets = tuple(
                f"{asset.path}  {size(asset.length_bytes)}  {asset.licence or '-'}  {asset.source}"
                for asset in bundle.index.assets
            )
    length = descriptor.index.length_bytes + sum(volume.length_bytes for volume in descriptor.volumes)
    allowed = may_install(descriptor.bundle, trusted.policy)
    own = f"bundles/{descriptor.bundle}/"
    names = [path.removeprefix(own) for path in sorted(trusted.targets) if path.startswith(own)]
    beside = tuple(name for name in names if "/" not in name and name not in ("bundle.json", "index.age"))
    volumes = len(descriptor.volumes)
    return Summary(descriptor.bundle, descriptor.made, length, volumes, allowed, assets, content, beside)
