"""Reads a repository's metadata from a folder, size-bounded, and feeds it to the state machine of `verify`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bundler.files import open_regular, read_limited
from bundler.format import limits, paths
from bundler.format.errors import BadBundle, BadInput, FileMissing, UnknownRoot
from bundler.format.trust.verify import Remembered, TargetFile, TrustedRepository, digest

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


def load_repository(
    folder: Path,
    *,
    root: bytes,
    repository: str | None,
    now: datetime,
    remembered: Remembered | None,
    root_limit: int | None = None,
) -> TrustedRepository:
    """Verifies all metadata of the repository in `folder`.

    Args:
        folder: The repository, on the medium.
        root: The trusted root to start from.
        repository: The expected id, or None where the caller has no site.
        now: The clock.
        remembered: What this reader has accepted before.
        root_limit: The last root version to take, for the builder, who knows the chain; None takes all on the medium.

    Raises:
        UnknownRoot, MetadataExpired, TooOld, FileMissing, BadBundle: By the rules of `verify`.
    """
    trusted = TrustedRepository(root, repository=repository, now=now, remembered=remembered)
    for _ in range(limits.ROOT_ROTATIONS):
        if trusted.root_version == root_limit:
            break
        try:
            data = _read(folder, f"{trusted.root_version + 1}.root.json", limits.ROOT_BYTES)
        except FileMissing:
            break
        trusted.update_root(data)
    trusted.update_timestamp(_read(folder, "timestamp.json", limits.TIMESTAMP_BYTES))
    trusted.update_snapshot(_read(folder, trusted.metadata_name("snapshot"), limits.SNAPSHOT_BYTES))
    trusted.update_targets(_read(folder, trusted.metadata_name("targets"), limits.TARGETS_BYTES))
    trusted.update_content(_read(folder, trusted.metadata_name("content"), limits.TARGETS_BYTES))
    return trusted


def _read(folder: Path, name: str, limit_bytes: int) -> bytes:
    return read_limited(paths.inside(folder, f"metadata/{name}"), limit_bytes)


def root_digest(typed: str) -> str:
    """Returns a root's digest as 64 lower-case digits, in whatever case and groups a person typed it.

    Raises:
        BadInput: It is no SHA-256.
    """
    found = "".join(typed.split()).lower()
    if not _SHA256.fullmatch(found):
        raise BadInput(
            "the digest of a root has 64 hexadecimal digits", "type both lines of `Root` as they stand on the card"
        )
    return found


def root_chain(folder: Path) -> list[bytes]:
    """Returns the root versions 1, 2, ... that lie on the medium without a gap; nothing of them is verified."""
    found: list[bytes] = []
    while len(found) < limits.ROOT_ROTATIONS:
        try:
            found.append(_read(folder, f"{len(found) + 1}.root.json", limits.ROOT_BYTES))
        except FileMissing:
            break
    return found


def find_root(folder: Path, root_sha256: str) -> bytes:
    """Returns the root metadata with this digest.

    Raises:
        BadInput: It is no SHA-256.
        UnknownRoot: The medium holds none: it is not ours, or the card is another's.
    """
    root_sha256 = root_digest(root_sha256)
    for path in sorted((folder / "metadata").glob("*.root.json"))[: limits.ROOT_ROTATIONS]:
        data = _read(folder, path.name, limits.ROOT_BYTES)
        if digest(data) == root_sha256:
            return data
    raise UnknownRoot(
        f"no root on the medium has the digest {root_sha256[:16]}...", "compare the medium with the site card"
    )


def oldest_root(folder: Path) -> bytes:
    """Returns the oldest root on the medium, for checks that prove only that nothing broke."""
    found = sorted((folder / "metadata").glob("*.root.json"), key=lambda path: (len(path.name), path.name))
    if not found:
        raise FileMissing(f"{folder} holds no root metadata", "name the folder of a repository")
    return _read(folder, found[0].name, limits.ROOT_BYTES)


def check_file(folder: Path, path: str, target: TargetFile, on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Checks length and SHA-256 of a signed file on the medium, in bounded memory.

    Raises:
        FileMissing: There is no such file.
        BadBundle: It is not what was signed, or not a regular file.
    """
    hasher, length = hashlib.sha256(), 0
    try:
        with open_regular(paths.inside(folder, path)) as file:
            while length <= target.length and (block := file.read(_BLOCK_BYTES)):
                hasher.update(block)
                length += len(block)
                on_bytes(len(block))
    except FileMissing:
        raise FileMissing(f"{path} is missing", "copy this file to the medium again") from None
    except OSError as error:
        raise BadBundle(f"{path} cannot be read: {error.strerror}") from error
    if length != target.length or hasher.hexdigest() != target.sha256:
        raise BadBundle(f"{path} is not what was signed", "copy this file to the medium again")
