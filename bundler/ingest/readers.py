"""Reads a folder of documents through the confined child; all problems are raised at once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundler.confine import run_confined
from bundler.format.errors import BadInput, BadInputs

SUFFIXES = (".md", ".txt", ".html", ".htm", ".pdf", ".docx", ".csv")
FILE_BYTES_MAX = 200_000_000
FILES_MAX = 20_000
_BATCH = 32
# What turns the direction of a line makes one name look like another (Unicode UAX 9).
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Document:
    """A document as text.

    Attributes:
        source: Its path below the folder, with `/`.
        title: Its own title, or else its name as words.
        text: Blocks with an empty line between them.
        headings: `(start, level)` of the blocks that are headings, in order; level 1 is the highest.
    """

    source: str
    title: str
    text: str
    headings: tuple[tuple[int, int], ...] = ()


def read_folder(folder: Path) -> list[Document]:
    """Reads every document below `folder`, in order of path.

    Raises:
        BadInputs: Files that are not documents, are too large, are links, or cannot be parsed; all of them.
    """
    # A link to a folder is not gone into: it counts as a file, so that what lies behind it is not left out in silence.
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    files = sorted(path for path in found if not path.name.startswith("."))
    if not files:
        raise BadInput(f"{folder} holds no documents", f"put {', '.join(SUFFIXES)} files into it")
    issues = [issue for path in files[:FILES_MAX] if (issue := _issue(path, folder))]
    if len(files) > FILES_MAX:
        issues.append(f"{len(files)} files, at most {FILES_MAX}")
    documents = [] if issues else _parse(files, folder, issues)
    if issues:
        raise BadInputs(str(folder), tuple(issues), "mend or remove these files")
    return documents


def _issue(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    if any(unicodedata.category(char) in ("Cc", "Cs") or char in _TURNS for char in name):
        return f"{name!a} has control characters in its name"
    if path.is_symlink() or not path.is_file():
        return f"{name} is a link or not a regular file"
    if path.suffix.lower() not in SUFFIXES:
        return f"{name} is not a document ({', '.join(SUFFIXES)})"
    if path.stat().st_size > FILE_BYTES_MAX:
        return f"{name} is longer than {FILE_BYTES_MAX} bytes"
    return ""


def _parse(files: Sequence[Path], folder: Path, issues: list[str]) -> list[Document]:
    documents = []
    for start in range(0, len(files), _BATCH):
        batch = {path.relative_to(folder).as_posix(): path for path in files[start : start + _BATCH]}
        for name, parsed in _confined(batch).items():
            if "error" in parsed:
                issues.append(f"{name} cannot be read: {parsed['error']}")
            else:
                documents.append(_document(name, parsed))
    return documents


def _confined(batch: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Parses files in one child; where a file takes the child down, each again in its own, to name that file."""
    request = {name: path.suffix.lower() for name, path in batch.items()}
    try:
        found: dict[str, dict[str, Any]] = run_confined("bundler.ingest.parse:parse_files", request, inputs=batch)
    except BadInput as error:
        if len(batch) == 1:
            return {name: {"error": error.fact} for name in batch}
        return {name: _confined({name: path})[name] for name, path in batch.items()}
    return {name: found[name] for name in batch}


def _document(name: str, parsed: Mapping[str, Any]) -> Document:
    headings = tuple((int(start), int(level)) for start, level in parsed["headings"])
    return Document(name, str(parsed["title"]) or title_of(name), str(parsed["text"]), headings)


def title_of(name: str) -> str:
    """Returns a file's name as words, for a document that has no title of its own."""
    return re.sub(r"[\s_-]+", " ", PurePosixPath(name).stem).strip()
