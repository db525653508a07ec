"""What was fetched from hubs, in HOME/cache/hub: files by digest, listings by commit, closed to other users."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.files import exclusive, make_folder, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.limits import MIB
from bundler.format.record import from_json, to_json
from bundler.sources.hub_listing import Digests, Entry, Listing
from bundler.sources.hub_part import open_private, pieces

LISTING_BYTES = 64 * MIB
WAIT_S = 24 * 3600.0


class HubCache:
    """The folder; it is made, private, at the first use."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        folder.chmod(0o700)
        self._files, self._listings = folder / "files", folder / "listings"
        for inner in (self._files, self._listings):
            make_folder(inner)

    def path(self, entry: Entry) -> Path:
        return self._files / entry.name

    def part(self, entry: Entry) -> Path:
        return self._files / f"{entry.name}.part"

    @contextmanager
    def held(self, entry: Entry) -> Iterator[None]:
        """Lets one build at a time fetch a file; the others wait and find it there."""
        with exclusive(self._files / f"{entry.name}.lock", f"another build fetches {entry.path}", WAIT_S):
            yield

    def whole(self, entry: Entry, heard: Callable[[int], None]) -> str | None:
        """Returns the SHA-256 of the file if it is there and every byte is right; a damaged one is removed."""
        path, digests = self.path(entry), Digests(entry)
        try:
            with open_private(path, os.O_RDONLY) as file:
                for piece in pieces(file):
                    digests.update(piece)
                    heard(len(piece))
        except FileNotFoundError:
            return None
        if digests.fit():
            return digests.sha256
        path.unlink()
        return None

    def listing(self, repository: str, commit: str) -> Listing | None:
        """Returns what was known of a commit, which never changes; None where nothing was, or it is damaged."""
        path = self._listing(repository, commit)
        try:
            found = from_json(Listing, canonical.decode(read_limited(path, LISTING_BYTES), path.name), path.name)
        except (FileMissing, BadBundle):
            return None
        return found if (found.repository, found.commit) == (repository, commit) else None

    def keep(self, listing: Listing) -> None:
        data = canonical.encode(to_json(listing))
        write_atomic(self._listing(listing.repository, listing.commit), data, mode=0o600)

    def _listing(self, repository: str, commit: str) -> Path:
        known = hashlib.sha256(f"{repository}@{commit}".encode()).hexdigest()
        return self._listings / f"{known}.json"
