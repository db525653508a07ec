"""What the documents about a bundle are made from: assets, sources and software, as they were captured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from bundler.format.index import content_digest
from bundler.format.software import programs, wheels
from bundler.format.trust.verify import TargetFile
from bundler.plan import Found
from bundler.repository.survey import Surveyed


@dataclass(frozen=True)
class Part:
    """An asset of the bundle.

    Attributes:
        sha256: Digest of the whole where it is known, else "".
        chunks_sha256: Digest over the digests of its chunks (SPEC 7.2).
    """

    path: str
    kind: str
    length_bytes: int
    sha256: str
    chunks_sha256: str
    licence: str
    source: str


@dataclass(frozen=True)
class Wheel:
    """A Python package of the program that the repository carries."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Material:
    """Everything that the documents tell of.

    Attributes:
        digests: Digest of what the profile names on this machine, by source text: of a file, or over a folder.
        program: Version of the program in the repository, "" where there is none.
    """

    profile: str
    title: str
    msp: str
    repository: str
    content_sha256: str
    parts: tuple[Part, ...]
    sources: tuple[Found, ...]
    digests: Mapping[str, str]
    program: str
    software: tuple[Wheel, ...]


def parts_of(surveyed: Iterable[Surveyed]) -> tuple[Part, ...]:
    """Returns the assets, in order of their paths."""
    found = [
        Part(
            item.captured.path,
            item.captured.kind,
            item.stamp.length_bytes,
            item.sha256,
            content_digest(item.digests()),
            item.captured.licence,
            item.captured.source,
        )
        for item in surveyed
    ]
    return tuple(sorted(found, key=lambda part: part.path))


def source_of(part: Part, sources: Sequence[Found]) -> Found | None:
    """Returns the source that an asset was made from; None where it is the profile's own content."""
    text = part.source.partition("#sha256=")[0]
    return next((found for found in sources if found.source == text), None)


def software_of(targets: Mapping[str, TargetFile]) -> tuple[str, tuple[Wheel, ...]]:
    """Returns the version of the newest program in a repository and its wheels; "" and none where there is none."""
    found = programs(targets)
    if not found:
        return "", ()
    version = list(found)[-1]
    listed = []
    for name, file in sorted(wheels(found[version]).items()):
        try:
            dist, number, _, _ = parse_wheel_filename(name)
        except InvalidWheelFilename:  # what was shipped is told as it is, by its name
            listed.append(Wheel(name, "", file.sha256))
        else:
            listed.append(Wheel(str(dist), str(number), file.sha256))
    return version, tuple(listed)
