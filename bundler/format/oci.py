"""Reads OCI manifests and indexes, and picks the image of a platform. Pure.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md and image-index.md; Docker's schema 2 has the same
shape under other media types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundler.format import strict_json
from bundler.format.errors import BadBundle

MANIFEST_BYTES = 4 << 20  # what registries take at most
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CONFIG_TYPES = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
# Of a platform: the image as the registry has it, for every platform.
ALL = "all"
PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHILDREN = 1_000
_LAYERS = 4_096


@dataclass(frozen=True)
class Descriptor:
    """A blob as a manifest names it.

    Attributes:
        digest: "sha256:...".
        platform: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, "" where it says none.
    """

    media_type: str
    digest: str
    length_bytes: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")

    def to_json(self) -> dict[str, Any]:
        """Returns it as an index lists it."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.length_bytes}
        return value | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True)
class Manifest:
    """A manifest, or an index, whose `children` are manifests; one of the two has no entries.

    Attributes:
        config: None of an index.
        subject: Digest of what it is attached to, or "".
    """

    media_type: str
    artifact_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: str = ""

    @property
    def is_index(self) -> bool:
        return self.config is None

    @property
    def is_image(self) -> bool:
        """Whether a container can be made of it; an artifact has another config."""
        return self.config is not None and self.config.media_type in CONFIG_TYPES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Its config and its layers, each once."""
        found = (*([] if self.config is None else [self.config]), *self.layers)
        return tuple({blob.digest: blob for blob in found}.values())


def read_manifest(data: bytes, what: str) -> Manifest:
    """Reads a manifest or an index.

    Args:
        data: Its bytes, whose digest the caller has checked.
        what: Names it in errors.

    Raises:
        BadBundle: It is none, is of schema 1, or names a blob that is not part of the registry.
    """
    value = read_json(data, what)
    media_type = _text(value, "mediaType", what)
    # The media type may be absent in OCI's own; what it holds tells it then.
    media_type = media_type or (INDEX_TYPES if "manifests" in value else MANIFEST_TYPES)[0]
    # image-spec, manifest.md: a document that holds both was made to be taken for the one and the other.
    if media_type in INDEX_TYPES and not {"config", "layers"} & value.keys():
        return _manifest(value, media_type, what, None, (), _many(value, "manifests", _CHILDREN, what))
    if media_type in MANIFEST_TYPES and "manifests" not in value:
        config = _descriptor(value.get("config"), f"config of {what}")
        return _manifest(value, media_type, what, config, _many(value, "layers", _LAYERS, what), ())
    raise BadBundle(f"{what} is no manifest or index that is known: {media_type or 'schema 1'!r}")


def read_json(data: bytes, what: str) -> dict[str, Any]:
    """Reads an object of foreign JSON; raises BadBundle for anything else."""
    if len(data) > MANIFEST_BYTES:
        raise BadBundle(f"{what} has {len(data)} bytes, at most {MANIFEST_BYTES} are read")
    return strict_json.read_object(data, what, BadBundle)


def choose(index: Manifest, platform: str, what: str) -> Descriptor:
    """Returns the manifest of a platform.

    Args:
        index: Whose children.
        platform: OS/ARCHITECTURE, which any variant serves where one alone is there; or with the variant.
        what: Names the index in errors.

    Raises:
        BadBundle: There is none, or there are several.
    """
    exact = [child for child in index.children if child.platform == platform]
    near = [child for child in index.children if child.platform.startswith(platform + "/")]
    found = exact or near
    if len({child.digest for child in found}) != 1:
        there = ", ".join(sorted({child.platform or "(none said)" for child in index.children}))
        raise BadBundle(f"{what} has {len(found)} images for {platform}; it has {there}")
    return found[0]


def platform_of(config: Mapping[str, Any]) -> str:
    """Returns the platform that the config of an image says."""
    words = [config.get(key) for key in ("os", "architecture", "variant")]
    return "/".join(word for word in words if isinstance(word, str) and word)


def fits(wanted: str, found: str) -> bool:
    """Whether an image of one platform is one of another, which may leave the variant open."""
    return found == wanted or found.startswith(wanted + "/")


def machine_platform(machine: str) -> str:
    """Returns the platform of a Linux machine, by its name in `uname -m`."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}
    return f"linux/{names.get(machine, machine)}"


def _manifest(
    value: Mapping[str, Any],
    media_type: str,
    what: str,
    config: Descriptor | None,
    layers: tuple[Descriptor, ...],
    children: tuple[Descriptor, ...],
) -> Manifest:
    subject = value.get("subject")
    attached = "" if subject is None else _descriptor(subject, f"subject of {what}").digest
    return Manifest(media_type, _text(value, "artifactType", what), config, layers, children, attached)


def _many(value: Mapping[str, Any], key: str, most: int, what: str) -> tuple[Descriptor, ...]:
    items = value.get(key)
    if not isinstance(items, list) or len(items) > most:
        raise BadBundle(f"{what} has no list of {key}, or more than {most}")
    return tuple(_descriptor(item, f"{key} {number} of {what}") for number, item in enumerate(items))


def _descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise BadBundle(f"{where} is missing")
    digest, length = _text(value, "digest", where), value.get("size")
    if not _DIGEST.fullmatch(digest):
        raise BadBundle(f"{where} has the digest {digest[:80]!r}, expected sha256:...")
    if type(length) is not int or not 0 <= length < 1 << 50:
        raise BadBundle(f"{where} has no sound size")
    if value.get("urls"):
        raise BadBundle(f"{where} lies outside the registry ({str(value['urls'])[:80]}), which nobody is asked")
    return Descriptor(_text(value, "mediaType", where), digest, length, _platform(value), _annotations(value, where))


def _platform(value: Mapping[str, Any]) -> str:
    platform = value.get("platform")
    return platform_of(platform) if isinstance(platform, dict) else ""


def _annotations(value: Mapping[str, Any], where: str) -> dict[str, str]:
    found = value.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise BadBundle(f"the annotations of {where} are not texts")
    return found


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise BadBundle(f"{key} of {where} is not a text")
    return text
