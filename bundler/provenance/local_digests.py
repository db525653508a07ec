"""Digests of what a profile names on this machine, for the provenance."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bundler.format.errors import BadInput
from bundler.provenance.statement import FOLDER_DIGEST


def digest_of(path: Path) -> str:
    """Returns "sha256:HEX" of a file, or "lifeboatFolderV1:HEX" of a folder.

    The latter is the SHA-256 of a line a file, as `sha256sum` prints them, in order of their paths from the folder;
    files whose names begin with a dot do not count.

    Raises:
        BadInput: A file cannot be read.
    """
    if path.is_file():
        return f"sha256:{_sha256(path)}"
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
    names = sorted((file.relative_to(path).as_posix().encode(), file) for file in files)
    lines = b"".join(_sha256(file).encode() + b"  " + name + b"\n" for name, file in names)
    return f"{FOLDER_DIGEST}:{hashlib.sha256(lines).hexdigest()}"


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
