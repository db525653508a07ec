"""Models that were merged from the parts of a split one, in HOME/cache/hub/merged.

One is known by the digests of its parts, in order, and by the code that merges; its own digest is held against it each
time, since disks fail. What older code made of the same parts goes when it is made anew.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path

from bundler.capture import gguf_merge
from bundler.files import exclusive, make_folder, read_limited, write_atomic
from bundler.format import gguf_header, gguf_types
from bundler.format.errors import BadBundle
from bundler.sources.hub_cache import WAIT_S
from bundler.sources.hub_part import check_space, open_private, pieces

CODE = tuple(Path(inspect.getfile(module)) for module in (gguf_merge, gguf_header, gguf_types))
_HEX_BYTES = 64


class HubMerged:
    """The folder; it is made at the first model, in one that is closed to other users."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def model(self, parts: Sequence[tuple[Path, str]]) -> tuple[Path, str]:
        """Returns where the merged model lies, whole and right, and its SHA-256.

        Args:
            parts: Path and SHA-256 of each part, in order.

        Raises:
            BadInput: The parts do not make one model, or something else than a file lies in its place.
            NoSpace: It does not fit beside them.
        """
        make_folder(self._folder)
        known = hashlib.sha256(" ".join(digest for _, digest in parts).encode()).hexdigest()
        path = self._folder / f"{known}-{_code()}.gguf"
        with exclusive(self._folder / f"{known}.lock", "another build merges the same model", WAIT_S):
            sha256 = _whole(path)
            if sha256 is None:
                for old in self._folder.glob(f"*{known}-*"):
                    old.unlink()
                sha256 = _make([part for part, _ in parts], path)
        return path, sha256


def _make(parts: Sequence[Path], path: Path) -> str:
    check_space(path.parent, sum(part.stat().st_size for part in parts))
    gguf_merge.merge(parts, path)
    sha256 = _digest(path)
    # Last, since it is what makes the file count.
    write_atomic(_record(path), sha256.encode(), mode=0o600)
    return sha256


def _whole(path: Path) -> str | None:
    """Returns the digest of the file if it is there and what it was when it was made."""
    try:
        told = read_limited(_record(path), _HEX_BYTES).decode(errors="replace")
        found = _digest(path)
    except (BadBundle, FileNotFoundError):  # no record, or one that is damaged
        return None
    return found if found == told else None


def _record(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_private(path, os.O_RDONLY) as file:
        for piece in pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _code() -> str:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in CODE]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
