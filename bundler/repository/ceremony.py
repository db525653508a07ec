"""The first hour of an MSP: the keyring and version 1 of its root, in steps that can be stopped and taken up again."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from bundler.format.errors import BadInput, Busy, UnknownRoot
from bundler.format.trust.medium import root_chain, root_digest
from bundler.format.trust.verify import TrustedRepository, digest
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

    A call that was stopped is finished by the same call.

    Args:
        keyring: Whose keys lie here already.
        roots: The chain of the home, empty or a part of the repository's.
        name: The MSP's name, for cards.
        repository: One of the MSP's, or a medium that was copied from it.
        root_sha256: Digest of any root of the chain: a site card names the newest of its day.
        now: The clock.

    Returns:
        The version of the newest root.

    Raises:
        Busy: There is a keyring or another chain already.
        UnknownRoot: The repository does not hold that root, or it does not prove those before it.
        BadBundle: A root is a link, longer than a root may be, or no metadata.
    """
    check_name(name)
    keyring.require_none()
    chain, wanted = root_chain(repository), root_digest(root_sha256)
    versions = [version for version, data in enumerate(chain, 1) if digest(data) == wanted]
    if not versions:
        raise UnknownRoot(
            f"no root in {repository} has the digest {wanted[:16]}...", "compare the repository with the card"
        )
    trusted = TrustedRepository(chain[0], repository=None, now=now, remembered=None)
    for data in chain[1:]:
        trusted.update_root(data)
    _require_proof(chain[: versions[0]])
    known = roots.all() if roots.exist else []
    if known[: len(chain)] != chain[: len(known)]:
        raise Busy("this home has another chain of roots", "set LIFEBOAT_HOME to another folder")
    for data in chain[len(known) :]:
        roots.add(data, now)
    keyring.adopt(Msp(name, trusted.msp))
    return len(roots.all())


def _require_proof(chain: Sequence[bytes]) -> None:
    """Proves the roots before the last one, whose digest is on a card.

    The digest proves that root and, by their signatures, the ones after it. Whoever wrote the folder may have put other
    roots before it, which the chain follows just as well: with the MSP's root key, a second one of their own, and a
    refresh key of their own that the builder would then believe. The signatures inside a proved root are the MSP's, so
    the root before it is proved where one of its own keys has signed both.

    Raises:
        UnknownRoot: A root is not proved.
    """
    for data, after in reversed(list(itertools.pairwise(chain))):
        root, later = (Metadata[Root].from_bytes(item) for item in (data, after))
        here, there = (
            root.signed.get_verification_result("root", item.signed_bytes, item.signatures).signed
            for item in (root, later)
        )
        if not here.keys() & there.keys():
            raise UnknownRoot(
                f"root version {root.signed.version} is not proved: no key has signed both it and the next",
                "give the digest of an older card, best of the first root",
            )


def check_name(name: str) -> None:
    """Raises BadInput unless an MSP's name can stand in a line of a card."""
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LETTERS:
        raise BadInput(f"the MSP's name must have 1 to {_NAME_LETTERS} printable letters", "it stands on every card")
