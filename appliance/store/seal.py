"""The seal: what keeps the site's identity and secrets on this box unreadable to who only has its disk.

So far one slot, a key file of this machine beside the state. It keeps the secrets out of backups of
`repository/` and `versions/`, and it does NOT protect a stolen disk; `status` and `doctor` say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, FileMissing, NotReady
from bundler.format.limits import KEYS_BYTES
from bundler.format.record import from_json, to_json

SLOT = "machine key file"
SLOT_WARNING = "sealed by a key file on the same disk: who takes the disk can read the content"


@dataclass(frozen=True, repr=False)
class SiteSecrets:
    """What the box must never show: its identity, the secret under its reports, and the one under its versions."""

    site: str
    msp: str
    repository: str
    root_sha256: str
    identity: str
    report_secret: str
    version_secret: str


class Seal:
    """Reads and writes sealed files under `STATE/keys`."""

    def __init__(self, keys: Path, layer: FileLayer = DISK) -> None:
        self._slot = keys / "machine.key"
        self._file = keys / "site.age"
        self._layer = layer

    @property
    def enrolled(self) -> bool:
        return self._file.exists()

    def store(self, secrets: SiteSecrets) -> None:
        """Seals the secrets; makes this machine's slot if there is none."""
        if not self._slot.exists():
            fresh = str(age.X25519Identity.generate()).encode()
            write_atomic(self._slot, fresh, mode=0o600, layer=self._layer)
        sealed = age.encrypt(canonical.encode(to_json(secrets)), [self._identity().recipient])
        write_atomic(self._file, sealed, mode=0o600, layer=self._layer)

    def open(self) -> SiteSecrets:
        """Opens the secrets.

        Raises:
            NotReady: The box was never enrolled.
            BadBundle: The sealed file or the slot was changed, or the slot is gone.
        """
        if not self.enrolled:
            raise NotReady("this box is not enrolled", "run `lifeboat-appliance install` with the site card")
        try:
            sealed = read_limited(self._file, KEYS_BYTES)
            document = age.decrypt(sealed, [self._identity()], limit_bytes=KEYS_BYTES)
        except (AgeError, ValueError) as error:
            raise BadBundle(f"the sealed secrets under {self._file.parent} do not open: {error}") from error
        return from_json(SiteSecrets, canonical.decode(document, "the sealed secrets"), "secrets")

    def store_file(self, name: str, data: bytes) -> None:
        """Seals one more secret of this box under a name."""
        sealed = age.encrypt(data, [self._identity().recipient])
        write_atomic(self._file.with_name(f"{name}.age"), sealed, mode=0o600, layer=self._layer)

    def open_file(self, name: str) -> bytes:
        """Opens such a secret; raises NotReady if there is none, BadBundle if it was changed."""
        try:
            sealed = read_limited(self._file.with_name(f"{name}.age"), KEYS_BYTES)
        except FileMissing:
            raise NotReady(f"there is no sealed {name} on this box") from None
        try:
            return age.decrypt(sealed, [self._identity()], limit_bytes=KEYS_BYTES)
        except (AgeError, ValueError) as error:
            raise BadBundle(f"the sealed {name} does not open: {error}") from error

    def _identity(self) -> age.X25519Identity:
        try:
            return age.X25519Identity.from_string(read_limited(self._slot, 4096).decode())
        except FileMissing:
            hint = "remove the state folder and enrol again with the medium and the site card"
            raise BadBundle(f"the seal's key file {self._slot} is gone: what it sealed is lost", hint) from None
