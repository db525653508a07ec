"""Fetches whatever a profile names."""

from __future__ import annotations

from bundler.format.errors import BadInput
from bundler.sources import file, hub, registry, wheel
from bundler.sources.place import Place
from bundler.sources.source import Fetched, FileSource, HubSource, RegistrySource, WheelSource, parse


def fetch(text: str, place: Place) -> Fetched:
    """Returns the file that a source names.

    Args:
        text: The source, as the profile writes it.
        place: Where to look and to keep.

    Raises:
        BadInput: The source is malformed, or what it names is refused.
        SourceFailed: It could not be delivered.
    """
    source = parse(text)
    match source:
        case FileSource():
            return file.fetch(source, place.base)
        case WheelSource():
            return wheel.fetch(source, place.wheels, place.work, offline=place.offline)
        case HubSource():
            return hub.fetch(source, place)
        case RegistrySource():
            return registry.fetch(source, place)


def fetch_image(text: str, platform: str, place: Place) -> Fetched:
    """Returns the container image that a source names, with its layout.

    Args:
        text: The source, as the profile writes it.
        platform: OS/ARCHITECTURE, or `oci.ALL` for every platform.
        place: Where to look and to keep.

    Raises:
        BadInput: It is no image, or not for the platform.
        SourceFailed: It could not be delivered.
        PartMissing: skopeo is not installed.
    """
    source = parse(text)
    if not isinstance(source, RegistrySource):
        raise BadInput(f"{text} is no container image", "write registry:HOST/NAME@sha256:DIGEST")
    return registry.fetch_image(source, platform, place)
