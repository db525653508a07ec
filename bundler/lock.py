"""`NAME.lock` beside a profile: what every remote source was when first taken. A source that moved is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.files import read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput, FileMissing, NewerFormat, SourceFailed
from bundler.format.record import LATER, from_json, to_json

LOCK_BYTES = 4_000_000
_FORMAT = 1


@dataclass(frozen=True)
class PinnedPart:
    """One remote file of a source that is several: its path there, its size in bytes and SHA-256."""

    path: str
    length_bytes: int
    sha256: str


@dataclass(frozen=True)
class Pin:
    """What a source delivered.

    Attributes:
        length_bytes: Its size.
        sha256: Its digest.
        resolved: What a branch or tag stood for, a commit or a digest; "" where the source tells it.
        parts: The remote files that it was made of, where it is not one of them as it came.
    """

    length_bytes: int
    sha256: str
    resolved: str = field(default="", metadata=LATER)
    parts: tuple[PinnedPart, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True)
class Lock:
    """Pins by source text."""

    format: int
    pins: dict[str, Pin]


def no_lock() -> Lock:
    """Returns a lock that pins nothing."""
    return Lock(_FORMAT, {})


def lock_path(profile: Path) -> Path:
    """Returns where the lock of a profile lies."""
    return profile.with_suffix(".lock")


def read_lock(path: Path) -> Lock:
    """Reads a lock; an absent one is empty.

    Raises:
        BadInput: It is not what we write.
        NewerFormat: A later program wrote it.
    """
    try:
        lock = from_json(Lock, canonical.read(read_limited(path, LOCK_BYTES), path.name), path.name)
    except FileMissing:
        return no_lock()
    except BadBundle as error:
        raise BadInput(
            f"{path} is damaged: {error.fact}", "restore it, or delete it to take every source as it is now"
        ) from error
    if lock.format != _FORMAT:
        raise NewerFormat(f"{path} is of format {lock.format}, this program reads {_FORMAT}", "update this program")
    return lock


def write_lock(path: Path, lock: Lock) -> None:
    """Writes a lock a fact a line: it lies in version control, and people read what changed."""
    text = json.dumps(to_json(lock), sort_keys=True, indent=2, ensure_ascii=False)
    write_atomic(path, text.encode() + b"\n")


def settle(lock: Lock, found: Mapping[str, Pin]) -> Lock:
    """Returns the lock with new sources added.

    Raises:
        SourceFailed: A source delivers something else than the lock pins.
    """
    for source, pin in found.items():
        pinned = lock.pins.get(source)
        if pinned is not None and pinned != pin:
            raise SourceFailed(
                f"{source} is not what the lock pins: {_difference(pinned, pin)}",
                "`lifeboat lock PROFILE --update` takes a branch, a tag or a signature that moved; to take any other "
                "change, delete the lock and build again",
            )
    return Lock(lock.format, {**lock.pins, **found})


def _difference(pinned: Pin, found: Pin) -> str:
    """Says in what two pins differ: the digest, or else the first thing that does."""
    if pinned.sha256 != found.sha256:
        return f"expected SHA-256 {pinned.sha256}, found {found.sha256}"
    if pinned.parts != found.parts:
        lists = [
            ", ".join(f"{part.path} {part.sha256[:12]}" for part in pin.parts) or "none" for pin in (pinned, found)
        ]
        return f"expected the parts {lists[0]}, found {lists[1]}"
    names = ("resolved", "length_bytes")
    name = next(name for name in names if getattr(pinned, name) != getattr(found, name))
    return f"expected {name} {getattr(pinned, name)!r}, found {getattr(found, name)!r}"
