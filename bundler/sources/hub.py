"""Delivers files of a model hub: pinned by commit, kept between builds, every byte hashed here.

A branch or a tag is asked for once; after that the commit in the lock is taken, wherever the branch stands
(`lifeboat lock --update` looks again). What the hub lists for a commit says which digest each file must have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bundler.files import read_limited, write_atomic
from bundler.format.errors import BadInput, FileMissing, SourceFailed
from bundler.lock import Pin
from bundler.sources.hub_cache import HubCache
from bundler.sources.hub_choice import Choice, choose
from bundler.sources.hub_listing import LFS, Entry, Listing, is_commit
from bundler.sources.hub_merged import HubMerged
from bundler.sources.hub_part import part_file
from bundler.sources.hub_patience import PATIENCE, HubPatience
from bundler.sources.hub_settings import hub_settings
from bundler.sources.place import Place
from bundler.sources.source import Fetched, HubSource, Part, Seen, parse
from bundler.sources.space import check_space

if TYPE_CHECKING:
    from bundler.sources.hub_client import HubClient


def fetch(source: HubSource, place: Place, patience: HubPatience = PATIENCE) -> Fetched:
    """Returns the file, from the cache or from the hub.

    Args:
        source: A file, or a glob that means one.
        place: Where to keep it, and what the lock pins.
        patience: How long to wait for the hub.

    Raises:
        BadInput: It is no one file there, or the profile asks for what cannot be.
        SourceFailed: It could not be delivered as the hub lists it, or is not what the lock pins.
    """
    with opened(place, patience) as hub:
        listing = hub.listing(source)
        choice = choose(listing, source)
        _check_announced(source, choice, place.pins.get(str(source)))
        found = _delivered(source, hub, listing, choice)
        texts = listing.licence_texts()
        return replace(
            found,
            licence=listing.licence or None,
            licence_text=hub.file(listing, texts[0])[0] if texts else None,
            licence_text_stands_out=len(texts) <= 1,
            resolved="" if is_commit(source.revision) else listing.commit,
        )


def look(source: HubSource, place: Place, commit: str = "", patience: HubPatience = PATIENCE) -> Seen:
    """Returns what a source stands for at a commit, "" for where it stands now; no file is fetched.

    Raises:
        BadInput: It is no one file there.
        SourceFailed: The hub cannot be asked.
    """
    with opened(place, patience) as hub:
        listing = hub.listing_at(source.repository, commit or hub.commit(source))
        entries = choose(listing, source).entries
        digest = " ".join(entry.digest for entry in entries)
        return Seen(listing.commit, sum(entry.length_bytes for entry in entries), digest, listing.licence)


def _delivered(source: HubSource, hub: Hub, listing: Listing, choice: Choice) -> Fetched:
    """Returns the file; of a split model, the one that its parts are merged into."""
    files = [hub.file(listing, entry) for entry in choice.entries]
    if not choice.is_split:
        path, sha256 = files[0]
        return Fetched(path, str(source), choice.entries[0].length_bytes, sha256, None)
    path, sha256 = hub.merged(files)
    parts = zip(choice.entries, files, strict=True)
    remote = tuple(Part(entry.path, entry.length_bytes, digest) for entry, (_, digest) in parts)
    return Fetched(path, str(source), path.stat().st_size, sha256, None, parts=remote)


@contextmanager
def opened(place: Place, patience: HubPatience = PATIENCE) -> Iterator[Hub]:
    """Opens the hub that the environment names (`HF_ENDPOINT`); it is connected, and a token got, when first needed."""
    with ExitStack() as stack:
        yield Hub(place, stack, patience)


class Hub:
    """Commits, listings and files, each from the cache where it is there."""

    def __init__(self, place: Place, stack: ExitStack, patience: HubPatience) -> None:
        self._place, self._stack = place, stack
        self._patience = replace(patience, told=place.tell)
        self._cache = HubCache(place.cache / "hub")
        self._merged = HubMerged(place.cache / "hub" / "merged")
        self._client: HubClient | None = None

    def listing(self, source: HubSource) -> Listing:
        """Returns what the source's commit holds."""
        return self.listing_at(source.repository, self.commit(source))

    def listing_at(self, repository: str, commit: str) -> Listing:
        known = self._cache.listing(repository, commit)
        if known is None:
            known = self._online(f"the files of {repository}@{commit}").listing(repository, commit)
            self._cache.keep(known)
        return known

    def commit(self, source: HubSource) -> str:
        """Returns the commit: as the source says it, as the lock has it, or as the hub says it now."""
        if is_commit(source.revision):
            return source.revision
        if (pinned := pinned_commit(source, self._place.pins)) is not None:
            return pinned
        # Sources of one revision mean one commit, even where the branch moves between two of them.
        noted = self._place.work / f"hub-{source.repository.replace('/', '--')}@{source.revision}"
        try:
            return read_limited(noted, 40).decode()
        except FileMissing:
            commit = self.commit_now(source)
        write_atomic(noted, commit.encode())
        return commit

    def commit_now(self, source: HubSource) -> str:
        """Asks the hub what the source's revision stands for, whatever the lock has."""
        what = f"what {source.repository}@{source.revision} stands for"
        return self._online(what).commit(source.repository, source.revision)

    def file(self, listing: Listing, entry: Entry) -> tuple[Path, str]:
        """Returns where a file lies, whole and right, and its SHA-256.

        Raises:
            SourceFailed: It cannot be had, or comes damaged twice.
        """
        with self._cache.held(entry):
            sha256 = self._cache.whole(entry, lambda _: None)
            if sha256 is None:
                sha256 = self._pull(listing, entry)
        return self._cache.path(entry), sha256

    def merged(self, parts: Sequence[tuple[Path, str]]) -> tuple[Path, str]:
        """Returns where the model that the parts make lies, and its SHA-256; raises BadInput where they make none."""
        return self._merged.model(parts)

    def _pull(self, listing: Listing, entry: Entry) -> str:
        client = self._online(f"{listing.repository}@{listing.commit}/{entry.path}")
        part = self._cache.part(entry)
        with part_file(part, entry) as file, self._watched(entry) as heard:
            check_space(part.parent, entry.length_bytes - file.digests.length_bytes)
            heard(file.digests.length_bytes)
            for _ in range(2):
                client.pull(listing.repository, listing.commit, entry, file, heard)
                if file.digests.fit():
                    file.sync()
                    part.rename(self._cache.path(entry))
                    return file.digests.sha256
                found = file.digests.found
                file.restart()
            raise SourceFailed(
                f"{listing.repository}@{listing.commit}/{entry.path} came damaged twice: expected {entry.kind}"
                f" {entry.digest}, found {found}",
                "the hub, its mirror or a proxy on the way spoils it",
            )

    @contextmanager
    def _watched(self, entry: Entry) -> Iterator[Callable[[int], None]]:
        if self._place.watch is None:
            yield lambda _: None
            return
        with self._place.watch(entry.path, entry.length_bytes) as progress:
            yield progress.advance

    def _online(self, what: str) -> HubClient:
        if self._place.offline:
            raise SourceFailed(f"{what}: not known here, and no hub is asked offline", "run it once without --offline")
        if self._client is None:
            from bundler.sources.hub_client import hub_client

            settings = hub_settings(os.environ, self._place.token)
            self._client = self._stack.enter_context(hub_client(settings, self._patience))
        return self._client


def pinned_commit(source: HubSource, pins: Mapping[str, Pin]) -> str | None:
    """Returns the commit that the lock has for a source, or for others of the same repository and revision.

    Raises:
        BadInput: The lock holds something that is no commit.
    """
    own = pins.get(str(source))
    if own is not None and own.resolved:
        found = {own.resolved}
    else:
        found = {pin.resolved for text, pin in pins.items() if pin.resolved and _same_revision(text, source)}
    if not all(map(is_commit, found)):
        raise BadInput(f"the lock pins {source} to {sorted(found)}, which is no commit", "restore or delete the lock")
    return found.pop() if len(found) == 1 else None


def _same_revision(text: str, source: HubSource) -> bool:
    if not text.startswith("hub:"):
        return False
    other = parse(text)
    return isinstance(other, HubSource) and (other.repository, other.revision) == (source.repository, source.revision)


def _check_announced(source: HubSource, choice: Choice, pin: Pin | None) -> None:
    """Refuses before anything is fetched what could not be what the lock pins."""
    if pin is None:
        return
    pinned = tuple(part.sha256 for part in pin.parts) if pin.parts else (pin.sha256,)
    listed = tuple(entry.digest for entry in choice.entries)
    if bool(pin.parts) == choice.is_split and all(entry.kind == LFS for entry in choice.entries) and pinned != listed:
        raise SourceFailed(
            f"{source} is not what the lock pins: expected SHA-256 {' '.join(pinned)}, it lists {' '.join(listed)}",
            "the hub changed a commit, or the lock was altered",
        )
