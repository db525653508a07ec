"""Which files of a listing a source means: one, or all parts of one split GGUF. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bundler.format.errors import BadInput
from bundler.sources.hub_listing import Entry, Listing
from bundler.sources.source import HubSource

SHOWN = 12
PARTS = 1000
_GLOB = re.compile(r"[*?\[]")
# llama.cpp names the parts of a split model so (`llama_split_path` in src/llama.cpp).
_PART = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf")


@dataclass(frozen=True)
class Choice:
    """The files in order; several are the parts of one split GGUF."""

    entries: tuple[Entry, ...]

    @property
    def is_split(self) -> bool:
        return part_of(self.entries[0].path) is not None


def part_of(path: str) -> tuple[str, int, int] | None:
    """Returns stem, number and count where a name is that of a part of a split GGUF."""
    match = _PART.fullmatch(path)
    return (match[1], int(match[2]), int(match[3])) if match is not None else None


def choose(listing: Listing, source: HubSource) -> Choice:
    """Returns the files that a source means.

    Raises:
        BadInput: None matches, several do, it is a folder, or parts of a split model are missing.
    """
    if not source.path or source.path.endswith("/"):
        raise BadInput(
            f"{source} is a folder of {len(listing.entries)} files", "name a file, or a glob like *Q4_K_M*.gguf"
        )
    exact = listing.find(source.path)
    if exact is None and not _GLOB.search(source.path):
        raise BadInput(f"{source}: {listing.commit} has no file {source.path}", _near(listing, source.path))
    found = [exact] if exact is not None else _matching(listing, source)
    stems = {part[0] for entry in found if (part := part_of(entry.path)) is not None}
    if len(stems) == 1 and all(part_of(entry.path) for entry in found):
        return _split(listing, source, stems.pop())
    if len(found) != 1:
        raise BadInput(f"{source} matches {len(found)} files: {_named(found)}", "narrow the glob to one model")
    return Choice((found[0],))


def _matching(listing: Listing, source: HubSource) -> list[Entry]:
    found = [entry for entry in listing.entries if matches(entry.path, source.path)]
    if not found:
        raise BadInput(f"{source}: {listing.commit} has no file that matches", _near(listing, source.path))
    if not all(entry.path.endswith(".gguf") for entry in found):
        raise BadInput(f"{source} matches {len(found)} files: {_named(found)}", "a glob is for GGUF files")
    return found


def matches(path: str, pattern: str) -> bool:
    """Whether a path matches: `*`, `?` and `[...]` stay within a folder, `**` is any number of folders."""
    return _steps(tuple(path.split("/")), tuple(pattern.split("/")))


def _steps(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_steps(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _steps(parts[1:], patterns[1:])


def _split(listing: Listing, source: HubSource, stem: str) -> Choice:
    """Returns all parts, whichever of them the source names."""
    parts = {
        (part[1], part[2]): e for e in listing.entries if (part := part_of(e.path)) is not None and part[0] == stem
    }
    counts = {count for _, count in parts}
    if len(counts) != 1:
        raise BadInput(
            f"{source}: the parts of {stem} say that they are {sorted(counts)}", "name the parts of one of them"
        )
    count = counts.pop()
    missing = [number for number in range(1, count + 1) if (number, count) not in parts][:SHOWN]
    if missing or len(parts) != count or count > PARTS:
        lacks = f", part {', '.join(map(str, missing))} is missing" if missing else ""
        raise BadInput(
            f"{source}: {stem} has {len(parts)} of {count} parts{lacks}", "the split model is not whole there"
        )
    return Choice(tuple(parts[number, count] for number in range(1, count + 1)))


def _near(listing: Listing, wanted: str) -> str:
    ending = wanted.rpartition(".")[2]
    near = [entry for entry in listing.entries if entry.path.endswith(f".{ending}")] or list(listing.entries)
    left_out = f", and {listing.left_out} with names that are not plain" if listing.left_out else ""
    return f"there is {_named(near)}{left_out}" if near else "the repository is empty"


def _named(entries: Sequence[Entry]) -> str:
    names = sorted(entry.path for entry in entries)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
