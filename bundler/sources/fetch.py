"""Fetches whatever a profile names."""

from __future__ import annotations

from bundler.format.errors import BadInput
<<<<<<< HEAD
from bundler.sources import file, registry, wheel
from bundler.sources.place import Place
from bundler.sources.source import Fetched, FileSource, RegistrySource, WheelSource, parse
=======
from bundler.sources import file, hub, wheel
from bundler.sources.place import Place
from bundler.sources.source import Fetched, FileSource, HubSource, WheelSource, parse
>>>>>>> main


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
    if isinstance(source, FileSource):
        return file.fetch(source, place.base)
    if isinstance(source, WheelSource):
        return wheel.fetch(source, place.wheels, place.work)
<<<<<<< HEAD
    if isinstance(source, RegistrySource):
        return registry.fetch(source, place)
=======
    if isinstance(source, HubSource):
        return hub.fetch(source, place)
>>>>>>> main
    raise BadInput(f"{text}: {text.partition(':')[0]}: sources are not in this version", "download the file")


def fetch_image(text: str, platform: str, place: Place) -> Fetched:
    """Returns the container image that a source names, with its layout.

    Raises:
        BadInput: It is no image, or not for the platform.
        SourceFailed: It could not be delivered.
        PartMissing: skopeo is not installed.
    """
    source = parse(text)
    if not isinstance(source, RegistrySource):
        raise BadInput(f"{text} is no container image", "write registry:HOST/NAME@sha256:DIGEST")
    return registry.fetch_image(source, platform, place)
