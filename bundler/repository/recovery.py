"""What the recovery card opens for a box that is gone: its backup, and the seal of its disk.

The recovery identity is opened here, at the MSP, and goes nowhere: what leaves is encrypted to the site, or opens one
disk alone.
"""

from __future__ import annotations

from pathlib import Path

from bundler.files import read_limited
from bundler.format import age
from bundler.format.age.errors import AgeError
from bundler.format.backup import BACKUP_FILE_BYTES, Backup, hand_on, open_backup
from bundler.format.errors import BadBundle, BadInput, WrongKey
from bundler.format.limits import KEYS_BYTES
from bundler.format.site import RECOVERY, Enrolment, open_enrolment


def open_recovery(repository: Path, code: str) -> Enrolment:
    """Opens the recovery site of a repository with the code on its card.

    Raises:
        FileMissing: The repository has none.
        WrongKey: The code is not that of this repository's recovery card.
    """
    return open_enrolment(read_limited(repository / "sites" / RECOVERY / "enroll.age", KEYS_BYTES), code)


def hand_on_backup(path: Path, recovery: Enrolment, site: str) -> tuple[Backup, bytes]:
    """Opens a box's backup, and returns it with the file that opens with that site's card alone.

    Raises:
        WrongKey: It is not for this recovery site, or of another repository.
        BadInput: It is of another site.
        BadBundle: It is damaged, or no backup.
    """
    try:
        backup = open_backup(read_limited(path, BACKUP_FILE_BYTES), age.parse_identity(recovery.identity))
    except WrongKey as error:
        raise WrongKey(
            f"the recovery card of repository {recovery.repository[:16]} does not open {path}",
            "is it the repository of this box, and its newest recovery card?",
        ) from error
    if backup.repository != recovery.repository:
        raise WrongKey(f"{path} is of repository {backup.repository[:16]}, not {recovery.repository[:16]}")
    if backup.site != site:
        raise BadInput(f"{path} is of site {backup.site}, not {site}", "name the site of the backup")
    return backup, hand_on(backup)


def unseal(slot: Path, recovery: Enrolment) -> bytes:
    """Returns the key that a box's recovery slot holds; raises WrongKey or BadBundle where it does not open."""
    try:
        data = read_limited(slot, KEYS_BYTES)
        return age.decrypt(data, [age.parse_identity(recovery.identity)], limit_bytes=KEYS_BYTES)
    except age.NoMatch as error:
        raise WrongKey(f"this recovery card does not open {slot}", "is it of the same repository?") from error
    except (AgeError, ValueError) as error:
        raise BadBundle(f"{slot} is damaged, or no slot: {error}", "copy keys/seal/recovery.slot again") from error
