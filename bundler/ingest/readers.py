"""Reads a folder of documents through the confined child; all problems are raised at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.confine import run_confined
from bundler.format.errors import BadInput, BadInputs

SUFFIXES = (".md", ".txt", ".html", ".htm", ".pdf", ".docx", ".csv")
FILE_BYTES_MAX = 200_000_000
FILES_MAX = 20_000
_BATCH = 32


@dataclass(frozen=True)
class Document:
    """A document as text.

    Attributes:
        source: Its path below the folder, with `/`.
        title: Its own title, or "".
        text: Blocks with an empty line between them; a block that begins with `# ` is a heading.
    """

    source: str
    title: str
    text: str


def read_folder(folder: Path) -> list[Document]:
    """Reads every document below `folder`, in order of path.

    Raises:
        BadInputs: Files that are not documents, are too large, are links, or cannot be parsed; all of them.
    """
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() and not path.name.startswith("."))
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
        inputs = {path.relative_to(folder).as_posix(): path for path in files[start : start + _BATCH]}
        request = {name: path.suffix.lower() for name, path in inputs.items()}
        parsed = run_confined("bundler.ingest.parse:parse_files", request, inputs=inputs)
        for name in inputs:
            if "error" in parsed[name]:
                issues.append(f"{name} cannot be read: {parsed[name]['error']}")
            else:
                documents.append(Document(name, str(parsed[name]["title"]), str(parsed[name]["text"])))
    return documents
