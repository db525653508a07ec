"""Delivers a file of this machine where it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bundler.format.errors import BadInput
from bundler.sources.source import Fetched, FileSource


def fetch(source: FileSource, base: Path) -> Fetched:
    """Returns the file, hashed.

    Args:
        source: Where it lies.
        base: The folder that a relative path starts from.

    Raises:
        BadInput: It is missing, unreadable, or not a regular file.
    """
    path = base / source.path
    if not path.is_file():
        raise BadInput(f"{source} is not a file (looked at {path})", "file: sources are relative to the profile")
    return delivered(path, str(source), None)


def delivered(path: Path, source: str, licence: str | None) -> Fetched:
    """Hashes a file and returns it as the delivery of `source`."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            length = file.tell()
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}") from error
    return Fetched(path, digest, length, f"{source}#sha256={digest}", licence)
