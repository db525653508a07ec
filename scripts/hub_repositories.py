"""What a local hub serves: repositories with commits, branches and tags, and files that need no disk."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

LFS_BYTES = 10 * 2**20
CARD = "README.md"
LFS_ENDINGS = (".gguf", ".safetensors", ".onnx", ".npy", ".bin")
_PIECE = 2**20


class Content:
    """The bytes of one file; `lfs` says whether the hub keeps it as git LFS does."""

    length_bytes: int
    lfs: bool

    def read(self, start: int, length: int) -> bytes:
        raise NotImplementedError

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.length_bytes if stop is None else stop
        while start < end:
            piece = self.read(start, min(_PIECE, end - start))
            yield piece
            start += len(piece)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """The git blob's name: of the file itself, or of the pointer that LFS leaves in its place."""
        if self.lfs:
            return git_blob(self.pointer)
        digest = hashlib.sha1(b"blob %d\0" % self.length_bytes, usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    @property
    def pointer(self) -> bytes:
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.length_bytes}\n"
        return text.encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


class Bytes(Content):
    """A file held in memory."""

    def __init__(self, data: bytes, *, lfs: bool) -> None:
        self.data, self.lfs, self.length_bytes = data, lfs, len(data)

    def read(self, start: int, length: int) -> bytes:
        return self.data[start : start + length]


class Stored(Content):
    """A file of the disk."""

    def __init__(self, path: Path, *, lfs: bool) -> None:
        self.path, self.lfs, self.length_bytes = path, lfs, path.stat().st_size

    def read(self, start: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(length)


class Made(Content):
    """So many bytes of no meaning, the same for the same seed, made when they are asked for."""

    lfs = True

    def __init__(self, length_bytes: int, seed: int = 0) -> None:
        self.length_bytes = length_bytes
        self._block = random.Random(seed).randbytes(_PIECE)

    def read(self, start: int, length: int) -> bytes:
        number, offset = divmod(start, _PIECE)
        piece = number.to_bytes(8, "big") + self._block[8:]
        return piece[offset : offset + length]


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    sha: str
    files: Mapping[str, Content]


@dataclass
class Repository:
    """A model repository.

    Attributes:
        name: "ORG/NAME".
        card: What its model card declares, such as {"license": "mit"}; else its README.md's front matter says it.
        token: The token that opens it; "" where it is open to everybody.
        gated: Whether who has no token hears "gated", and who has another one is not let in.
        branches: Commits by name of branch; tags likewise.
    """

    name: str
    card: dict[str, Any] = field(default_factory=dict)
    token: str = ""
    gated: bool = False
    branches: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def commit(self, files: Mapping[str, Content | bytes], branch: str = "main") -> str:
        """Puts a new commit with these files on top of a branch, and returns its id."""
        contents = {path: as_content(path, file) for path, file in files.items()}
        known = [self.name, branch, len(self.commits), sorted((path, c.etag) for path, c in contents.items())]
        sha = hashlib.sha1(json.dumps(known).encode(), usedforsecurity=False).hexdigest()
        self.branches[branch] = self.commits[sha] = Commit(sha, contents)
        return sha

    def at(self, revision: str) -> Commit | None:
        return self.branches.get(revision) or self.tags.get(revision) or self.commits.get(revision)


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def as_content(path: str, file: Content | bytes) -> Content:
    if isinstance(file, Content):
        return file
    return Bytes(file, lfs=path.endswith(LFS_ENDINGS) or len(file) >= LFS_BYTES)


def folder_files(folder: Path) -> dict[str, Content]:
    """Returns the files of a folder by their path in it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: Stored(path, lfs=name.endswith(LFS_ENDINGS) or path.stat().st_size >= LFS_BYTES)
        for name, path in named.items()
    }


def card_of(files: Mapping[str, Content]) -> dict[str, str]:
    """Returns what the front matter of the README.md declares: lines of `key: value`, and no other YAML."""
    if CARD not in files:
        return {}
    head, *lines = files[CARD].read(0, files[CARD].length_bytes).decode(errors="replace").splitlines() or [""]
    if head != "---" or "---" not in lines:
        return {}
    pairs = (line.partition(": ") for line in lines[: lines.index("---")] if not line.startswith((" ", "-", "#")))
    return {key: value.strip().strip("\"'") for key, _, value in pairs if value.strip()}


def described(
    folders: Iterable[tuple[str, str]], large: Iterable[tuple[str, str]], licences: Iterable[tuple[str, str]]
) -> dict[str, dict[str, Content]]:
    """Returns the files of repositories, all that is said of one together.

    Args:
        folders: "ORG/NAME" and the folder of its files.
        large: "ORG/NAME/FILE" and how many bytes are made for it.
        licences: "ORG/NAME" and the licence of a model card that is made for it.
    """
    found: dict[str, dict[str, Content]] = {}
    for name, folder in folders:
        found.setdefault(name, {}).update(folder_files(Path(folder)))
    for where, length in large:
        name, _, file = where.rpartition("/")
        found.setdefault(name, {})[file] = Made(int(length))
    for name, licence in licences:
        found.setdefault(name, {})[CARD] = as_content(CARD, f"---\nlicense: {licence}\n---\n# {name}\n".encode())
    return found


def info(repository: Repository, commit: Commit) -> dict[str, Any]:
    """Returns what the hub's API says of a repository at a commit."""
    gated = "manual" if repository.gated else False
    card = repository.card or card_of(commit.files)
    tags = [f"license:{card['license']}"] if isinstance(card.get("license"), str) else []
    return {
        "id": repository.name,
        "modelId": repository.name,
        "sha": commit.sha,
        "private": bool(repository.token) and not repository.gated,
        "gated": gated,
        "tags": tags,
        "cardData": card,
        "siblings": [{"rfilename": path} for path in sorted(commit.files)],
    }


def entry(path: str, content: Content, *, wrong: bool = False) -> dict[str, Any]:
    """Returns a file's row in a listing; a wrong one announces another digest."""
    row: dict[str, Any] = {"type": "file", "oid": content.blob_id, "size": content.length_bytes, "path": path}
    if content.lfs:
        digest = content.sha256[::-1] if wrong else content.sha256
        row["lfs"] = {"oid": digest, "size": content.length_bytes, "pointerSize": len(content.pointer)}
    elif wrong:
        row["oid"] = content.blob_id[::-1]
    return row
