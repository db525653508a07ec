"""Delivers a file of this machine where it lies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from bundler.format.errors import BadInput
from bundler.sources.source import Fetched, FileSource


def fetch(source: FileSource, base: Path) -> Fetched:
    """Returns the file; it is not read.

    Args:
        source: Where it lies.
        base: The folder that a relative path starts from.

    Raises:
        BadInput: It is missing or not a regular file.
    """
    path = base / source.path
    if not path.is_file():
        raise BadInput(f"{source} is not a file (looked at {path})", "file: sources are relative to the profile")
    return Fetched(path, str(source), path.stat().st_size, "", None)


def hashed(fetched: Fetched) -> Fetched:
    """Returns the delivery with its digest, reading the file where it is not known.

    Raises:
        BadInput: The file cannot be read.
    """
    if fetched.sha256:
        return fetched
    try:
        with fetched.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return replace(fetched, sha256=digest, length_bytes=file.tell())
    except OSError as error:
        raise BadInput(f"{fetched.source} cannot be read: {error.strerror}") from error
