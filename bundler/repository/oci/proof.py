"""Proves what a registry holds before anything of it is taken for a repository: pulled into a hidden folder first.

Only small files get there: the metadata, verified from the root that the caller trusts and against what the medium
holds, and then the descriptors of the bundles. Every other file of the artifact must be signed, or be one of the two of
a site that nobody signs, and have the size and, where it is one blob, the digest that was signed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bundler.files import FileLayer, read_limited, write_atomic
from bundler.format import paths
from bundler.format.errors import BadBundle, FileMissing, TooOld, UnknownRoot
from bundler.format.limits import DESCRIPTOR_BYTES, KEYS_BYTES, ROOT_BYTES, TARGETS_BYTES
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.medium import load_repository, oldest_root
from bundler.format.trust.verify import TargetFile, TrustedRepository
from bundler.repository.copy import check_medium, has_size
from bundler.repository.oci.artifact import Stored
from bundler.repository.oci.client import Client
from bundler.repository.oci.partial import PUSH_AGAIN
from bundler.repository.selection import content_paths, metadata_paths

_METADATA = re.compile(r"metadata/(?:[0-9]{1,9}\.(?:root|targets|content|snapshot)|timestamp)\.json")
_FIRST_ROOT = "metadata/1.root.json"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_OWN = ("enroll.age", "keys.age")


@dataclass
class Proof:
    """The hidden folder of one pull.

    Attributes:
        client: Of the registry.
        medium: The folder that is pulled into.
        folder: Where small files lie until they are proven.
        layer: Where faults can be put.
        fetched_bytes: Came from the registry so far.
    """

    client: Client
    medium: Path
    folder: Path
    layer: FileLayer
    fetched_bytes: int = field(default=0, init=False)

    def begin(self, files: Iterable[Stored]) -> None:
        """Fetches the metadata of an artifact."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in files:
            if _METADATA.fullmatch(file.path):
                self._stage(file, TARGETS_BYTES)

    def start(self, root: bytes | None) -> bytes:
        """Returns the root to begin with: the one that is trusted, or the medium's own, or the artifact's."""
        return root or self._own_root() or oldest_root(self.folder)

    def trusted(self, start: bytes, now: datetime) -> TrustedRepository:
        """Verifies the metadata, and that it is what the medium holds, or newer.

        Raises:
            UnknownRoot, BadBundle: It is another MSP's, or not what was signed.
            BadInput: The medium holds another repository.
            TooOld: The medium holds a newer state.
        """
        if read_limited(paths.inside(self.folder, _FIRST_ROOT), ROOT_BYTES) != start:
            raise UnknownRoot(
                f"{self.client.reference} is another MSP's: it begins with a root that is not trusted here",
                "compare the reference, and the home that --home names",
            )
        trusted = load_repository(self.folder, root=start, repository=None, now=now, remembered=None)
        check_medium(self.medium, start, trusted.policy.repository)
        try:
            # Expiry is no matter here: an old folder is what is to be brought up to date.
            held = load_repository(self.medium, root=start, repository=None, now=_BEGINNING, remembered=None)
        except (BadBundle, UnknownRoot):
            return trusted  # there is none, or a damaged one: whoever damages the folder needs no old artifact
        try:
            return load_repository(self.folder, root=start, repository=None, now=now, remembered=held.remembered())
        except TooOld as error:
            raise TooOld(
                f"{self.client.reference} is older than what {self.medium} holds: {error.fact}",
                "the tag was moved back: ask the MSP, or pull into an empty folder",
            ) from error

    def bundle(self, files: Mapping[str, Stored], trusted: TrustedRepository) -> str:
        """Returns the newest bundle, once every file of the artifact may become what was signed, and none lacks.

        Raises:
            BadBundle, FileMissing: They are not.
        """
        metadata = set(metadata_paths(self.folder, trusted))
        for file in files.values():
            if file.path not in metadata:
                _check_signed(file, target_of(file, trusted))
            if file.path.startswith("bundles/") and file.path.endswith("/bundle.json"):
                self._stage(file, DESCRIPTOR_BYTES)
        descriptor = newest_descriptor(self.folder, trusted)
        if descriptor is None:
            raise BadBundle("the artifact holds no bundle that may be installed", PUSH_AGAIN)
        if lacking := [path for path in content_paths(trusted, descriptor) if path not in files]:
            raise FileMissing(f"{len(lacking)} files are not in the artifact, the first is {lacking[0]}", PUSH_AGAIN)
        return descriptor.bundle

    def _own_root(self) -> bytes | None:
        """Returns the first root that the medium holds, if it holds a repository."""
        if not (self.medium / "metadata" / "timestamp.json").exists():
            return None
        try:
            return read_limited(paths.inside(self.medium, _FIRST_ROOT), ROOT_BYTES)
        except BadBundle:
            return None  # damaged: it is written anew

    def _stage(self, file: Stored, limit: int) -> None:
        """Puts a small file into the hidden folder, from the medium where that has it."""
        if file.length_bytes > limit or len(file.blobs) != 1:
            raise BadBundle(f"{file.path} has {file.length_bytes} bytes, at most {limit} are read")
        held = self.medium / file.path
        data = b""
        if has_size(held, file.length_bytes) and not held.is_symlink():
            data = read_limited(held, limit)
        if _digest(data) != file.blobs[0].digest:
            data = b"".join(self.client.read(file.blobs[0]))
            self.fetched_bytes += len(data)
        if _digest(data) != file.blobs[0].digest:
            raise BadBundle(f"{file.path} in the registry is not what its manifest names", PUSH_AGAIN)
        write_atomic(paths.inside(self.folder, file.path), data, layer=self.layer)


def target_of(file: Stored, trusted: TrustedRepository) -> TargetFile:
    """Returns what a file must be: by the metadata, or, for the two of a site that nobody signs, by the manifest.

    Raises:
        BadBundle: Nobody signed it.
    """
    if file.path in trusted.targets:
        return trusted.targets[file.path]
    parts = file.path.split("/")
    if len(parts) == 3 and parts[0] == "sites" and parts[2] in _OWN and len(file.blobs) == 1:
        if file.length_bytes > KEYS_BYTES:
            raise BadBundle(f"{file.path} has {file.length_bytes} bytes, at most {KEYS_BYTES} are read")
        return TargetFile(file.length_bytes, file.blobs[0].digest.removeprefix("sha256:"))
    raise BadBundle(f"nobody signed {file.path}", PUSH_AGAIN)


def _check_signed(file: Stored, target: TargetFile) -> None:
    """Refuses before it is fetched what cannot become what was signed."""
    whole = len(file.blobs) == 1
    if file.length_bytes != target.length or (whole and file.blobs[0].digest != f"sha256:{target.sha256}"):
        raise BadBundle(f"{file.path} in the registry is not what was signed", PUSH_AGAIN)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
