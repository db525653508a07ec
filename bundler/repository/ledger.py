"""What the builder remembers of each repository, encrypted to itself: bundle identities and sites.

It is what lets a site be authorised later without touching a payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import age, canonical
from bundler.format.errors import FileMissing
from bundler.format.limits import INDEX_BYTES
from bundler.format.record import from_json, to_json
from bundler.repository.keyring import Keyring


@dataclass(frozen=True)
class Site:
    """A site that may open bundles: its id and its public age recipient."""

    site: str
    recipient: str


@dataclass(frozen=True)
class Ledger:
    """One repository as the builder knows it; `identities` are secret age identities by recipient."""

    repository: str
    suite: str = age.CLASSIC_SUITE
    identities: dict[str, str] = field(default_factory=dict, repr=False)
    sites: tuple[Site, ...] = ()

    def with_identities(self, identities: Mapping[str, str]) -> Ledger:
        """Adds secret bundle identities by recipient."""
        return replace(self, identities={**self.identities, **identities})

    def with_site(self, site: Site) -> Ledger:
        return replace(self, sites=(*self.sites, site))


def read_ledger(keyring: Keyring, repository: str) -> Ledger:
    """Reads the ledger of a repository; an absent one is empty."""
    try:
        sealed = read_limited(_path(keyring.home, repository), INDEX_BYTES)
    except FileMissing:
        return Ledger(repository)
    document = age.decrypt(sealed, [keyring.ledger_identity()], limit_bytes=INDEX_BYTES)
    return from_json(Ledger, canonical.decode(document, "the ledger"), "ledger")


def write_ledger(keyring: Keyring, ledger: Ledger, layer: FileLayer = DISK) -> None:
    sealed = age.encrypt(canonical.encode(to_json(ledger)), [keyring.ledger_identity().recipient])
    write_atomic(_path(keyring.home, ledger.repository), sealed, mode=0o600, layer=layer)


def _path(home: Path, repository: str) -> Path:
    return home / "ledgers" / f"{repository}.age"
