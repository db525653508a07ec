"""The artifact's manifest (SPEC 12): which layers are which files. Pure; what a registry returns is read as hostile."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bundler.format import paths, strict_json
from bundler.format.errors import BadBundle, BadInput
from bundler.format.limits import MIB, VOLUME_FILE_BYTES

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.lifeboat.repository.v1"
FILE_TYPE = "application/vnd.lifeboat.file.v1"
PART_TYPE = "application/vnd.lifeboat.part.v1"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
REPOSITORY, TIMESTAMP = "vnd.lifeboat.repository", "vnd.lifeboat.timestamp"
# distribution-spec 1.1, "Pushing manifests": registries take at least 4 MiB, and many no more.
MANIFEST_BYTES = 4 * MIB
LAYERS = 32_768
PARTS = 4096
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = re.compile(r"(.+)\.([0-9]{4})-of-([0-9]{4})")


@dataclass(frozen=True)
class Blob:
    """Bytes in a registry: "sha256:..." and their length."""

    digest: str
    length_bytes: int


EMPTY = Blob(f"sha256:{hashlib.sha256(b'{}').hexdigest()}", 2)


@dataclass(frozen=True)
class Stored:
    """A file of the repository and the blobs that are its bytes, in order."""

    path: str
    blobs: tuple[Blob, ...]

    @property
    def length_bytes(self) -> int:
        return sum(blob.length_bytes for blob in self.blobs)


@dataclass(frozen=True)
class Artifact:
    """What a manifest says.

    Attributes:
        files: In the manifest's order.
        repository: The repository's id as the manifest claims it; "" where it does not. Nothing rests on it.
        timestamp: The version of its timestamp, by the same claim; 0 where there is none.
    """

    files: tuple[Stored, ...]
    repository: str
    timestamp: int


def part_lengths(length: int, cap: int) -> list[int]:
    """Returns the lengths of the layers of a file: one, or as few as the cap allows, nearly alike and whole MiB.

    Args:
        length: Of the file, in bytes.
        cap: Of a layer, in bytes, whole MiB.
    """
    if length <= cap:
        return [length]
    count = -(-length // cap)
    piece = -(-length // (count * MIB)) * MIB
    return [min(piece, length - start) for start in range(0, length, piece)]


def encode(artifact: Artifact, created: str) -> bytes:
    """Returns the manifest; the same repository gives the same bytes.

    Args:
        artifact: What is stored.
        created: ISO 8601, as registries show it.

    Raises:
        BadInput: It would be larger than registries take.
    """
    layers = [layer for file in artifact.files for layer in _layers(file)]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY.digest, "size": 2},
        "layers": layers,
        "annotations": {
            CREATED: created,
            REPOSITORY: artifact.repository,
            TIMESTAMP: str(artifact.timestamp),
        },
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    if len(data) > MANIFEST_BYTES or len(layers) > LAYERS:
        raise BadInput(
            f"the manifest would have {len(data)} bytes and {len(layers)} layers, registries take "
            f"{MANIFEST_BYTES} and we read {LAYERS}",
            "make the layers larger with --layer-size",
        )
    return data


def _layers(file: Stored) -> Iterator[dict[str, Any]]:
    for number, blob in enumerate(file.blobs, 1):
        whole = len(file.blobs) == 1
        title = file.path if whole else f"{file.path}.{number:04}-of-{len(file.blobs):04}"
        yield {
            "mediaType": FILE_TYPE if whole else PART_TYPE,
            "digest": blob.digest,
            "size": blob.length_bytes,
            "annotations": {TITLE: title},
        }


def decode(data: bytes) -> Artifact:
    """Reads a manifest.

    Raises:
        BadBundle: It is no manifest of ours, or one of its descriptors or paths is not allowed.
    """
    document = _parsed(data)
    if document.get("schemaVersion") != 2 or document.get("mediaType", MANIFEST_TYPE) != MANIFEST_TYPE:
        raise BadBundle("this is no OCI image manifest", "name the artifact itself, not an index of several")
    if document.get("artifactType") != ARTIFACT_TYPE:
        raise BadBundle(
            f"this is no repository of ours but {_shown(document.get('artifactType') or _config(document))}",
            "name an artifact that `lifeboat copy` pushed",
        )
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > LAYERS:
        raise BadBundle(f"the manifest lists no layers, or more than {LAYERS}")
    files = tuple(_files([_layer(layer) for layer in layers]))
    paths.check_all(file.path for file in files)
    return Artifact(files, *_claims(document))


def _claims(document: dict[str, Any]) -> tuple[str, int]:
    notes = document.get("annotations") or {}
    repository = notes.get(REPOSITORY) if isinstance(notes, dict) else None
    number = notes.get(TIMESTAMP) if isinstance(notes, dict) else None
    known = isinstance(number, str) and re.fullmatch(r"[0-9]{1,9}", number)
    named = isinstance(repository, str) and re.fullmatch(r"[0-9a-f]{32}", repository)
    return str(repository) if named else "", int(str(number)) if known else 0


def _config(document: dict[str, Any]) -> object:
    config = document.get("config")
    return config.get("mediaType") if isinstance(config, dict) else None


def _layer(layer: object) -> tuple[str, str, Blob]:
    """Returns media type, title and blob of a descriptor."""
    found = _object(layer, "a layer")
    digest, length = found.get("digest"), found.get("size")
    title = _object(found.get("annotations"), "the annotations of a layer").get(TITLE)
    if found.get("mediaType") not in (FILE_TYPE, PART_TYPE):
        raise BadBundle(f"a layer has the media type {_shown(found.get('mediaType'))}")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadBundle(f"a layer has the digest {_shown(digest)}")
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= VOLUME_FILE_BYTES:
        raise BadBundle(f"a layer has the size {_shown(length)}, at most {VOLUME_FILE_BYTES} are read")
    if not isinstance(title, str):
        raise BadBundle(f"the layer {digest} has no title")
    return str(found["mediaType"]), title, Blob(digest, length)


def _files(layers: Iterable[tuple[str, str, Blob]]) -> Iterator[Stored]:
    """Joins parts, which stand one after another, into files."""
    path, count, parts = "", 0, list[Blob]()
    for kind, title, blob in layers:
        if kind == FILE_TYPE:
            if parts:
                break
            yield Stored(title, (blob,))
            continue
        match = _PART.fullmatch(title)
        if match is None or not 2 <= int(match[3]) <= PARTS:
            raise BadBundle(f"{_shown(title)} names no part of a file")
        if not parts:
            path, count = match[1], int(match[3])
        if (match[1], int(match[2]), int(match[3])) != (path, len(parts) + 1, count):
            raise BadBundle(f"{_shown(title)} is not the next part of {_shown(path)}")
        parts.append(blob)
        if len(parts) == count:
            yield _joined(path, parts)
            parts = []
    if parts:
        raise BadBundle(f"parts of {_shown(path)} are missing: {len(parts)} of {count} are there")


def _joined(path: str, parts: list[Blob]) -> Stored:
    file = Stored(path, tuple(parts))
    if file.length_bytes > VOLUME_FILE_BYTES or not all(part.length_bytes for part in parts):
        raise BadBundle(f"{_shown(path)} has {file.length_bytes} bytes, at most {VOLUME_FILE_BYTES} are read")
    return file


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MANIFEST_BYTES:
        raise BadBundle(f"the manifest is longer than {MANIFEST_BYTES} bytes")
    return strict_json.read_object(data, "the manifest", BadBundle, floats=False)


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadBundle(f"{what} is no JSON object")
    return value


def _shown(value: object) -> str:
    """A value of the registry as it may stand on a terminal."""
    return ascii(value)[:120]
