"""Content of this machine: the folders and files that a profile names beside itself."""

from __future__ import annotations

from pathlib import Path

from bundler.format.errors import BadInput
from bundler.plan import Found
from bundler.profile.model import Profile

# What is nearly all text; of a PDF or DOCX only some is.
_TEXTS = {".md", ".txt", ".csv", ".jsonl"}


def local_path(profile: Profile, source: str) -> Path:
    """Returns the path of a `file:` source; raises BadInput for content from elsewhere."""
    scheme, _, path = source.partition(":")
    if scheme != "file" or not path:
        raise BadInput(f"{source} cannot hold content", "write file:PATH, from the profile's own folder")
    found = profile.base / path
    if not found.exists():
        raise BadInput(f"{source} does not exist (looked at {found})", "file: sources are relative to the profile")
    return found


def local_file(profile: Profile, source: str) -> Path:
    """As `local_path`, of what must be a file: a licence's text, or self-test cases."""
    found = local_path(profile, source)
    if not found.is_file():
        raise BadInput(f"{source} is not a file (looked at {found})", "name the file itself")
    return found


def sized(part: str, source: str, path: Path) -> Found:
    """Returns the size of a folder or file, and how much of it is text that gets vectors."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    sizes = {file: file.stat().st_size for file in files}
    text_bytes = sum(length for file, length in sizes.items() if file.suffix.lower() in _TEXTS)
    return Found(part, source, sum(sizes.values()), "", "", text_bytes=text_bytes)
