"""`[[image]]` of a profile."""

from __future__ import annotations

from bundler.format.errors import BadInput
from bundler.format.image import NAME
from bundler.format.oci import ALL, PLATFORM
from bundler.profile.model import ImageEntry
from bundler.profile.table import Table
from bundler.sources.source import RegistrySource, parse

# Not the builder's own, which may be another than the box: the same profile gives the same bundle everywhere.
_PLATFORM = "linux/amd64"


def read_images(tables: list[Table]) -> tuple[ImageEntry, ...]:
    """Reads every `[[image]]`; what is wrong is noted."""
    names: set[str] = set()
    sources: set[str] = set()
    return tuple(_image(table, names, sources) for table in tables)


def _image(table: Table, names: set[str], sources: set[str]) -> ImageEntry:
    name, source = table.name(), table.text("source")
    if name and not NAME.fullmatch(name):
        table.issue(f"name {name!r} is no name of an image: letters and digits, with single '.', '_' or '-' between")
    if name in names:
        table.issue(f"the name {name!r} is used twice")
    names.add(name)
    platform = table.text("platform", _PLATFORM)
    if platform != ALL and not PLATFORM.fullmatch(platform):
        table.issue(f"platform is {platform!r}, expected such as {_PLATFORM!r}, or {ALL!r}")
    same = _checked(table, source) if source else source
    if same in sources:
        table.issue(f"{source} is named twice; platform = {ALL!r} holds every platform")
    sources.add(same)
    entry = ImageEntry(name, source, platform, table.text("licence", ""))
    table.close()
    return entry


def _checked(table: Table, text: str) -> str:
    """Returns what a source names, however it is written; what is wrong with it is noted."""
    try:
        source = parse(text)
    except BadInput as error:
        table.issue(error.fact)
        return text
    if not isinstance(source, RegistrySource) or source.member:
        table.issue(f"{text} is no image: write registry:HOST/NAME@sha256:DIGEST, or registry:HOST/NAME:TAG")
    elif not (source.tag or source.digest):
        table.issue(f"{text} has neither tag nor digest, and no tag is guessed")
    return source.same if isinstance(source, RegistrySource) else text
