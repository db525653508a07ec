"""Fetches whatever a profile names."""

from __future__ import annotations

from pathlib import Path

from bundler.sources import file, wheel
from bundler.sources.source import Fetched, FileSource, parse


def fetch(text: str, *, base: Path, cache: Path, work: Path) -> Fetched:
    """Returns the file that a source names.

    Args:
        text: The source, as the profile writes it.
        base: The profile's folder.
        cache: Where wheels are kept between builds.
        work: A private folder for this build.

    Raises:
        BadInput: The source is malformed, or what it names is refused.
        SourceFailed: It could not be delivered.
    """
    source = parse(text)
    if isinstance(source, FileSource):
        return file.fetch(source, base)
    return wheel.fetch(source, cache, work)
