"""`bundle.json`, the public descriptor of a bundle: what a courier may know. It is a signed TUF target."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundler.format import FORMAT_VERSION, age, canonical, paths
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, NewerFormat
from bundler.format.limits import DESCRIPTOR_BYTES, VOLUME_FILE_BYTES, VOLUMES, bounded
from bundler.format.record import from_json, to_json

_BUNDLE_ID = re.compile(r"[0-9]{1,6}-[0-9]{4,9}-[0-9a-f]{8}")
EPOCH_MAX, SEQUENCE_MAX = 999_999, 999_999_999
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileDigest:
    """A ciphertext file of the repository: its path from the repository's root, size and SHA-256."""

    path: str
    length_bytes: int
    sha256: str


@dataclass(frozen=True)
class Volume:
    """A volume that the bundle uses, its own or an earlier bundle's, with the recipient it is encrypted to."""

    path: str
    length_bytes: int
    sha256: str
    recipient: str


@dataclass(frozen=True)
class Descriptor:
    """The public facts of one bundle; order of bundles is `(epoch, sequence)`."""

    format: int
    suite: str
    repository: str
    bundle: str
    epoch: int
    sequence: int
    made: str
    recipient: str
    index: FileDigest
    volumes: tuple[Volume, ...]

    @property
    def order(self) -> tuple[int, int]:
        return (self.epoch, self.sequence)


def bundle_id(epoch: int, sequence: int, random_hex: str) -> str:
    """Returns the id of a bundle: epoch, sequence and 8 random hexadecimal digits."""
    return f"{epoch}-{sequence:04d}-{random_hex}"


def is_bundle_id(text: str) -> bool:
    return _BUNDLE_ID.fullmatch(text) is not None


def order_of(bundle: str) -> tuple[int, int]:
    """Returns `(epoch, sequence)` of a bundle id; raises BadBundle if it is none."""
    if not is_bundle_id(bundle):
        raise BadBundle(f"bundle id is not allowed: {bundle!r}")
    epoch, sequence, _ = bundle.split("-")
    return int(epoch), int(sequence)


def encode_descriptor(descriptor: Descriptor) -> bytes:
    """Returns `bundle.json`; raises BadInput where it is longer than a reader takes."""
    return bounded(canonical.encode(to_json(descriptor)), DESCRIPTOR_BYTES, "the descriptor")


def decode_descriptor(data: bytes) -> Descriptor:
    """Reads `bundle.json`.

    Raises:
        NewerFormat: The format is newer than this program.
        BadBundle: Anything else is not as `encode_descriptor` writes it.
    """
    value = canonical.decode(data, "bundle.json")
    version = value.get("format")
    if type(version) is not int or version < 1:
        raise BadBundle("bundle.json names no format version")
    if version > FORMAT_VERSION:
        raise NewerFormat(f"bundle format {version}, this program reads up to {FORMAT_VERSION}")
    descriptor = from_json(Descriptor, value, "bundle.json")
    _check(descriptor)
    return descriptor


def _check(descriptor: Descriptor) -> None:
    if descriptor.suite not in age.SUITES:
        raise NewerFormat(f"encryption suite {descriptor.suite!r} is not known to this program")
    if order_of(descriptor.bundle) != descriptor.order:
        raise BadBundle(f"bundle {descriptor.bundle} states another order than its id")
    if len(descriptor.volumes) > VOLUMES:
        raise BadBundle(f"bundle uses {len(descriptor.volumes)} volumes, at most {VOLUMES}")
    recipients = {descriptor.recipient, *(volume.recipient for volume in descriptor.volumes)}
    if any(_suite(recipient) != descriptor.suite for recipient in recipients):  # 4.3
        raise BadBundle(f"bundle {descriptor.bundle} is not encrypted with its suite {descriptor.suite}")
    paths.check_all([descriptor.index.path, *(volume.path for volume in descriptor.volumes)])
    files: tuple[FileDigest | Volume, ...] = (descriptor.index, *descriptor.volumes)
    for file in files:
        if not _SHA256.fullmatch(file.sha256) or not 0 < file.length_bytes <= VOLUME_FILE_BYTES:
            raise BadBundle(f"{file.path} has no sound digest or length")


def _suite(recipient: str) -> str | None:
    try:
        return age.suite_of(age.parse_recipient(recipient))
    except (AgeError, ValueError):
        return None
