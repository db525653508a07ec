"""A backup of a box (SPEC 6.5): made by the box for the recovery site, handed on by the builder to the site's own.

age tells of no sender, and recipients are no secrets, so the record carries a MAC under the site's report secret, which
only the box and who holds its site card know. The builder hands on what it cannot check; the box checks it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, BadInput, NewerFormat, NoSpace, WrongKey
from bundler.format.limits import MIB
from bundler.format.record import from_json, to_json

BACKUP_BYTES = 64 * MIB
# age adds 16 bytes to every 64 KiB, and a header.
BACKUP_FILE_BYTES = BACKUP_BYTES + MIB
_FORMAT = 1
_CONTEXT = b"lifeboat backup\n"


@dataclass(frozen=True, repr=False)
class Backup:
    """One backup, opened.

    Attributes:
        format: 1.
        repository: Id of the repository that the box belongs to.
        site: Its site.
        recipient: The site's public recipient, to which it is handed on.
        made: ISO 8601.
        files: Base64 by name.
        mac: In hexadecimal, "" before it is sealed.
    """

    format: int
    repository: str
    site: str
    recipient: str
    made: str
    files: dict[str, str]
    mac: str

    @classmethod
    def of(cls, repository: str, site: str, recipient: str, made: str, files: Mapping[str, bytes]) -> Backup:
        """Makes one that has no MAC yet."""
        texts = {name: base64.b64encode(data).decode() for name, data in files.items()}
        return cls(_FORMAT, repository, site, recipient, made, texts, "")

    def contents(self) -> dict[str, bytes]:
        """Returns the files by name; raises BadBundle where one is no base64."""
        try:
            return {name: base64.b64decode(text, validate=True) for name, text in self.files.items()}
        except binascii.Error as error:
            raise BadBundle("the backup holds a file that is not base64") from error

    def check(self, report_secret: str) -> None:
        """Raises BadBundle unless the box that knows the report secret wrote it."""
        # As bytes: of texts it takes ASCII alone, and this one is foreign.
        if not hmac.compare_digest(self.mac.encode(), _mac(self, report_secret).encode()):
            raise BadBundle("the backup was not made by a box of this site", "use a backup of this very site")


def seal_backup(backup: Backup, report_secret: str, recipients: Sequence[age.KeyRecipient]) -> bytes:
    """Returns the file.

    Raises:
        NoSpace: It would be longer than any reader takes.
        BadInput: Recipients of two kinds do not share a file.
    """
    document = canonical.encode(to_json(replace(backup, mac=_mac(backup, report_secret))))
    if len(document) > BACKUP_BYTES:
        raise NoSpace(f"the backup would have {len(document)} bytes, at most {BACKUP_BYTES} are read")
    try:
        return age.encrypt(document, recipients)
    except ValueError as error:
        raise BadInput(f"not all recipients can open one file: {error}") from error


def open_backup(data: bytes, identity: age.KeyIdentity) -> Backup:
    """Opens a backup; who made it is checked by `Backup.check`.

    Raises:
        WrongKey: It is not for this identity.
        BadBundle: It is damaged, or no backup.
        NewerFormat: A later program made it.
    """
    try:
        document = age.decrypt(data, [identity], limit_bytes=BACKUP_BYTES)
    except age.NoMatch as error:
        raise WrongKey("this key does not open the backup") from error
    except AgeError as error:
        raise BadBundle(f"the backup is damaged, or no backup: {error}", "use another copy of it") from error
    value = canonical.decode(document, "the backup")
    if type(value.get("format")) is int and value["format"] > _FORMAT:
        raise NewerFormat(f"the backup has format {value['format']}, this program reads {_FORMAT}")
    return from_json(Backup, value, "the backup")


def hand_on(backup: Backup) -> bytes:
    """Returns an opened backup as a file to the site's own key."""
    try:
        recipient = age.parse_recipient(backup.recipient)
    except AgeError as error:
        raise BadBundle(f"the backup names no recipient: {error}") from error
    return age.encrypt(canonical.encode(to_json(backup)), [recipient])


def _mac(backup: Backup, report_secret: str) -> str:
    message = _CONTEXT + canonical.encode(to_json(replace(backup, mac="")))
    return hmac.new(bytes.fromhex(report_secret), message, hashlib.sha256).hexdigest()
