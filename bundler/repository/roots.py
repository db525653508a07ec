"""The MSP's chain of root metadata, kept beside the keyring and copied into every repository: the same file in all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from bundler.files import DISK, FileLayer, exclusive, make_folder, read_limited, write_atomic
from bundler.format.errors import BadInput, Busy, FileMissing, NotReady
from bundler.format.limits import ROOT_BYTES, ROOT_ROTATIONS
from bundler.format.trust.policy import MSP
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.keyring import Keyring

ROOT_DAYS = 3 * 365
# The MSP's three kinds of key, and the TUF roles that each signs for; `refresh` signs the delegated content too.
DUTIES: Mapping[str, tuple[str, ...]] = {
    "root": ("root",),
    "release": ("targets",),
    "refresh": ("snapshot", "timestamp"),
}


@dataclass(frozen=True)
class Change:
    """What a new root changes about one kind of key.

    Attributes:
        duty: "root", "release" or "refresh".
        add: Keys that may sign from now on.
        remove: Ids of keys that may not any more.
        threshold: How many must sign, or None to leave it.
    """

    duty: str
    add: Sequence[Key] = ()
    remove: Collection[str] = ()
    threshold: int | None = None


class Roots:
    """The chain under `LIFEBOAT_HOME/roots`.

    Args:
        home: LIFEBOAT_HOME.
        layer: Where faults can be put.
    """

    def __init__(self, home: Path, layer: FileLayer = DISK) -> None:
        self._folder, self._layer = home / "roots", layer

    @property
    def exist(self) -> bool:
        return (self._folder / "1.root.json").exists()

    def all(self) -> list[bytes]:
        """Returns every version, the first one first.

        Raises:
            NotReady: There is none.
            BadInput: One is damaged.
        """
        found: list[bytes] = []
        while len(found) < ROOT_ROTATIONS:
            path = self._folder / f"{len(found) + 1}.root.json"
            try:
                found.append(read_limited(path, ROOT_BYTES))
            except FileMissing:
                break
            _parsed(found[-1], path)
        if not found:
            raise NotReady(f"there is no root in {self._folder}", "run `lifeboat init`")
        return found

    def newest(self) -> Metadata[Root]:
        return _parsed(self.all()[-1], self._folder)

    def add(self, data: bytes, now: datetime) -> int:
        """Appends the next version; returns its number.

        Raises:
            UnknownRoot: It does not follow the chain, or too few keys signed it.
            Busy: That version is there already, or another command is adding one.
        """
        make_folder(self._folder, self._layer)
        with exclusive(self._folder / ".lock", f"another command is changing {self._folder}"):
            return self._add(data, now)

    def _add(self, data: bytes, now: datetime) -> int:
        chain = self.all() if self.exist else []
        trusted = TrustedRepository(chain[0] if chain else data, repository=None, now=now, remembered=None)
        for known in chain[1:]:
            trusted.update_root(known)
        version: int = _parsed(data, self._folder).signed.version
        if chain and version <= len(chain):
            raise Busy(f"root version {version} is in the chain already", "make the change anew on the newest root")
        if chain:
            trusted.update_root(data)
        write_atomic(self._folder / f"{version}.root.json", data, layer=self._layer)
        return version


def _parsed(data: bytes, path: Path) -> Metadata[Root]:
    try:
        found: Metadata[Root] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise BadInput(f"{path} is damaged", "restore `roots` from a backup of the home or a repository") from error
    return found


def first_root(keyring: Keyring, now: datetime) -> bytes:
    """Makes and signs version 1 with the keyring's own three keys, one for each kind."""
    root = Root(
        version=1,
        expires=now.replace(microsecond=0) + timedelta(days=ROOT_DAYS),
        consistent_snapshot=True,
        unrecognized_fields={MSP: keyring.msp().id},
    )
    for duty, roles in DUTIES.items():
        for role in roles:
            root.add_key(keyring.public(duty), role)
    metadata = Metadata(root)
    metadata.sign(keyring.signer("root"))
    return metadata.to_bytes()


def changed_root(newest: Metadata[Root], changes: Sequence[Change], now: datetime) -> Metadata[Root]:
    """Returns the next version, unsigned, with a fresh expiry; no changes renew the root.

    Raises:
        BadInput: A kind would have fewer keys than its threshold, or a key is unknown.
    """
    root = Root.from_dict(newest.signed.to_dict())
    root.version += 1
    root.expires = now.replace(microsecond=0) + timedelta(days=ROOT_DAYS)
    for change in changes:
        for role in DUTIES[change.duty]:
            _change_role(root, role, change)
    return Metadata(root)


def _change_role(root: Root, role: str, change: Change) -> None:
    for keyid in change.remove:
        if keyid not in root.roles[role].keyids:
            raise BadInput(f"key {keyid[:16]} does not sign for {change.duty}", "see `lifeboat keys list`")
        root.revoke_key(keyid, role)
    for key in change.add:
        root.add_key(key, role)
    if change.threshold is not None:
        root.roles[role].threshold = change.threshold
    held, needed = len(root.roles[role].keyids), root.roles[role].threshold
    if not 1 <= needed <= held:
        raise BadInput(f"{change.duty} would have {held} keys and need {needed} signatures")
