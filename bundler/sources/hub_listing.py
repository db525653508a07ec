"""What a commit of a hub's repository holds: names, sizes and the hub's own digests, each checked before it is used."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bundler.format.errors import SourceFailed

FILES = 100_000
NAME_BYTES, NAMES_BYTES = 1024, 16 * 2**20
LICENCE_CHARS = 100
LICENCE_TEXT_BYTES = 2**20
LFS, GIT = "sha256", "git"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LICENCE = re.compile(r"(licen[cs]e|copying)([._-][^/]*)?", re.IGNORECASE)

_PLAIN = re.compile(r"licen[cs]e([.](txt|md))?", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A file of a repository.

    Attributes:
        path: Its path there; never a path here.
        length_bytes: Its size, as the hub says.
        kind: LFS, or GIT for a small file that lies in the repository itself.
        digest: SHA-256 of the file, or the SHA-1 that git names it by.
    """

    path: str
    length_bytes: int
    kind: str
    digest: str

    @property
    def name(self) -> str:
        """What the file is called in the cache: by its digest alone, so that no name of a hub reaches the disk."""
        return f"{self.kind}-{self.digest}"


@dataclass(frozen=True)
class Listing:
    """A commit.

    Attributes:
        licence: As the model card declares it, "" where it does not.
        left_out: How many files have names that are not plain.
    """

    repository: str
    commit: str
    licence: str
    entries: tuple[Entry, ...]
    left_out: int = 0

    def find(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)

    def licence_texts(self) -> tuple[Entry, ...]:
        """Returns the file with the text of the model's licence, or several by path where none stands out.

        `LICENSE-MODEL` is the model's, whatever stands beside it; else `LICENSE` is, before `LICENSE-CODE`.
        """
        found = [entry for entry in self.entries if _LICENCE.fullmatch(entry.path)]
        small = [entry for entry in found if entry.length_bytes <= LICENCE_TEXT_BYTES]
        best = min((_remoteness(entry.path) for entry in small), default=0)
        return tuple(sorted((item for item in small if _remoteness(item.path) == best), key=lambda item: item.path))


def _remoteness(path: str) -> int:
    """How little a licence's file is known to be the model's by its name."""
    if "model" in path.lower():
        return 0
    if _PLAIN.fullmatch(path):
        return 1
    return 2 if path.lower().startswith("licen") else 3


def is_commit(text: object) -> bool:
    """Whether a revision names a commit itself: a short one or a name can come to mean another."""
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None


def make_listing(
    repository: str, commit: str, licence: str, found: Iterable[tuple[str, object, object, object]]
) -> Listing:
    """Builds a listing of what a hub says.

    Args:
        repository: "ORG/REPO".
        commit: Its id.
        licence: As the card declares it.
        found: Path, size, SHA-256 of LFS or None, git's id; nothing in it is trusted.

    Raises:
        SourceFailed: Too many files, or one without a plain size and digest, or listed twice.
    """
    entries: dict[str, Entry] = {}
    left_out = names_bytes = 0
    for path, size, sha256, blob in found:
        if not is_plain(path):
            left_out += 1
            continue
        names_bytes += len(path.encode())
        if len(entries) + left_out >= FILES or names_bytes > NAMES_BYTES:
            raise SourceFailed(
                f"{repository} lists more than {FILES} files", "this program does not read such a repository"
            )
        if path in entries:
            raise SourceFailed(f"{repository} lists {path} twice")
        entries[path] = _entry(repository, path, size, sha256, blob)
    return Listing(repository, commit, licence, tuple(entries.values()), left_out)


def _entry(repository: str, path: str, size: object, sha256: object, blob: object) -> Entry:
    if type(size) is not int or not 0 <= size < 2**50:
        raise SourceFailed(f"{repository} lists {path} with the size {str(size)[:40]!r}")
    if isinstance(sha256, str) and _SHA256.fullmatch(sha256):
        return Entry(path, size, LFS, sha256)
    if sha256 is None and isinstance(blob, str) and _COMMIT.fullmatch(blob):
        return Entry(path, size, GIT, blob)
    raise SourceFailed(f"{repository} lists {path} without a digest that this program knows")


def is_plain(path: object) -> bool:
    """Whether a name of a hub is a relative path that shows as what it is."""
    if not isinstance(path, str) or not path.isprintable() or len(path.encode(errors="replace")) > NAME_BYTES:
        return False
    return "\\" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


def card_licence(licence: object, name: object) -> str:
    """Returns the licence that a card declares; one that is "other" is known by its own name."""
    found = name if licence == "other" and isinstance(name, str) and name else licence
    texts = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    words = ", ".join(text for text in texts if isinstance(text, str))
    return words[:LICENCE_CHARS] if words.isprintable() else ""


class Digests:
    """Both digests of a file that is written or read piece by piece."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.restart()

    def restart(self) -> None:
        self.length_bytes, self._sha256 = 0, hashlib.sha256()
        # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects; SHA-1 is what git has, the lock pins SHA-256.
        start = b"blob %d\0" % self._entry.length_bytes
        self._git = hashlib.sha1(start, usedforsecurity=False) if self._entry.kind == GIT else None

    def update(self, data: bytes | memoryview) -> None:
        self.length_bytes += len(data)
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def found(self) -> str:
        """The digest of the kind that the hub announces."""
        return self.sha256 if self._git is None else self._git.hexdigest()

    def fit(self) -> bool:
        """Whether everything read is the file that the hub lists."""
        return self.length_bytes == self._entry.length_bytes and self.found == self._entry.digest
