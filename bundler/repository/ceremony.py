"""The first hour of an MSP: the keyring and version 1 of its root, in steps that can be stopped and taken up again."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

from bundler.files import read_limited
from bundler.format.errors import BadInput, Busy, FileMissing
from bundler.format.limits import ROOT_BYTES
from bundler.format.trust.medium import find_root
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.keyring import WORK_FACTOR_LOG2, Keyring, Msp
from bundler.repository.roots import Roots, first_root

_NAME_LETTERS = 30  # a line of a card has 72


def make_keyring(
    keyring: Keyring, roots: Roots, name: str, now: datetime, work_factor_log2: int = WORK_FACTOR_LOG2
) -> None:
    """Makes the three keys, the ledger's identity and the first root.

    Raises:
        BadInput: The name cannot stand on a card, or the passphrase is empty.
        Busy: There is a keyring already.
    """
    check_name(name)
    if not (keyring.exists and not roots.exist):  # else an earlier call was stopped between keys and root
        keyring.create(Msp(name, secrets.token_hex(16)), work_factor_log2)
    roots.add(first_root(keyring, now), now)


def adopt(keyring: Keyring, roots: Roots, name: str, repository: Path, root_sha256: str, now: datetime) -> int:
    """Rebuilds a home whose keys were restored from their cards: the chain of roots comes from any repository.

    Args:
        keyring: Whose keys lie here already.
        roots: An empty chain.
        name: The MSP's name, for cards.
        repository: One of the MSP's, or a medium that was copied from it.
        root_sha256: Digest of the first root, as on every card.
        now: The clock.

    Returns:
        The version of the newest root.

    Raises:
        Busy: There is a keyring or a chain already.
        UnknownRoot: The repository does not start from that root.
    """
    check_name(name)
    if roots.exist:
        raise Busy("this home has a chain of roots already", "set LIFEBOAT_HOME to another folder")
    data = find_root(repository, root_sha256)
    trusted = TrustedRepository(data, repository=None, now=now, remembered=None)
    while True:
        roots.add(data, now)
        try:
            data = read_limited(repository / "metadata" / f"{len(roots.all()) + 1}.root.json", ROOT_BYTES)
        except FileMissing:
            break
    keyring.adopt(Msp(name, trusted.msp))
    return len(roots.all())


def check_name(name: str) -> None:
    """Raises BadInput unless an MSP's name can stand in a line of a card."""
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LETTERS:
        raise BadInput(f"the MSP's name must have 1 to {_NAME_LETTERS} printable letters", "it stands on every card")
