"""What the builder remembers of each repository, encrypted to itself: bundle identities and sites.

It is what lets a site be authorised later without touching a payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadInput, FileMissing, NotReady, WrongKey
from bundler.format.limits import INDEX_BYTES
from bundler.format.record import LATER, from_json, to_json
from bundler.format.site import RECOVERY
from bundler.repository.keyring import Keyring


@dataclass(frozen=True)
class Site:
    """A site that may open bundles.

    Attributes:
        site: Its id.
        recipient: Its public age recipient.
        delivered: The bundles that were copied for it, the last one last.
        settings: What `site set` gave it.
        volumes: Volumes that it got with bundles that were removed since, and that a kept bundle uses.
    """

    site: str
    recipient: str
    delivered: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = field(default=(), metadata=LATER)

    def with_delivery(self, bundle: str) -> Site:
        """Notes a copy; what the bundle uses counts from now on, and nothing else."""
        earlier = tuple(known for known in self.delivered if known != bundle)
        return replace(self, delivered=(*earlier, bundle), volumes=())


@dataclass(frozen=True)
class Ledger:
    """One repository as the builder knows it.

    Attributes:
        repository: Its id.
        suite: Of all its bundle identities and wraps.
        identities: Secret age identities by recipient.
        sites: Who may open its bundles.
        recovery: Whether its recovery site was made, be it removed since.
    """

    repository: str
    suite: str = age.CLASSIC_SUITE
    identities: dict[str, str] = field(default_factory=dict, repr=False)
    sites: tuple[Site, ...] = ()
    recovery: bool = False

    @property
    def recovery_recipient(self) -> str:
        """The public recipient of the recovery site, "" where there is none."""
        return next((site.recipient for site in self.sites if site.site == RECOVERY), "")

    def with_identities(self, identities: Mapping[str, str]) -> Ledger:
        """Adds secret bundle identities by recipient."""
        return replace(self, identities={**self.identities, **identities})

    def with_site(self, site: Site) -> Ledger:
        """Adds a site, or replaces the one of the same name."""
        return replace(self, sites=(*(known for known in self.sites if known.site != site.site), site))

    def with_volumes(self, site: str, volumes: tuple[str, ...]) -> Ledger:
        """Notes what a site holds of bundles that are removed."""
        return self.with_site(replace(self.site(site), volumes=volumes))

    def without_site(self, site: str) -> Ledger:
        return replace(self, sites=tuple(known for known in self.sites if known.site != site))

    def site(self, name: str) -> Site:
        """Returns a site; raises BadInput if there is none of that name."""
        for known in self.sites:
            if known.site == name:
                return known
        raise BadInput(f"there is no site {name!r} in this repository", "see `lifeboat site list`")


def read_ledger(keyring: Keyring, repository: str) -> Ledger:
    """Reads the ledger of a repository.

    Raises:
        NotReady: This home has none: another builder made the repository, and only its ledger knows the sites.
        WrongKey: It is encrypted to another keyring's identity.
    """
    path = _path(keyring.home, repository)
    try:
        sealed = read_limited(path, INDEX_BYTES)
    except FileMissing:
        raise NotReady(f"there is no ledger {path}", "bring it from the home that made the repository") from None
    try:
        document = age.decrypt(sealed, [keyring.ledger_identity()], limit_bytes=INDEX_BYTES)
    except age.NoMatch as error:
        raise WrongKey(f"this keyring does not open {path}", "name the home that made the repository") from error
    except AgeError as error:
        raise BadInput(f"{path} is damaged: {error}", "restore it from a backup of the home") from error
    return from_json(Ledger, canonical.decode(document, "the ledger"), "ledger")


def write_ledger(keyring: Keyring, ledger: Ledger, layer: FileLayer = DISK) -> None:
    sealed = age.encrypt(canonical.encode(to_json(ledger)), [keyring.ledger_identity().recipient])
    write_atomic(_path(keyring.home, ledger.repository), sealed, mode=0o600, layer=layer)


def _path(home: Path, repository: str) -> Path:
    return home / "ledgers" / f"{repository}.age"
