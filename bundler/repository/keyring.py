"""The MSP's keys under `LIFEBOAT_HOME/keyring`: three Ed25519 signing keys and the ledger's age identity.

Each lies in its own file, encrypted by age with the passphrase (scrypt), so that `root.key` can be moved offline and
an unattended job can be given `refresh.key` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signer

from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadInput, Busy, FileMissing, NotReady, WrongKey
from bundler.format.limits import KEYS_BYTES

ROLES = ("root", "release", "refresh")
LEDGER = "ledger"
WORK_FACTOR_LOG2 = 18


@dataclass(frozen=True)
class Msp:
    """Who owns the keyring: a display name and a random id that stands in every root."""

    name: str
    id: str


class Keyring:
    """Opens keys one by one, only when they are needed.

    Args:
        home: LIFEBOAT_HOME.
        passphrase: Asks for the passphrase; called at most once.
        layer: Where faults can be put.
    """

    def __init__(self, home: Path, passphrase: Callable[[], str], layer: FileLayer = DISK) -> None:
        self.home = home
        self._folder = home / "keyring"
        self._ask, self._layer = passphrase, layer
        self._passphrase: str | None = None

    @property
    def exists(self) -> bool:
        return (self._folder / "msp.json").exists()

    def create(self, msp: Msp, work_factor_log2: int = WORK_FACTOR_LOG2) -> None:
        """Makes all keys.

        Raises:
            Busy: There is a keyring already; it is never written over.
            BadInput: The passphrase is empty.
        """
        if self.exists:
            raise Busy(f"{self._folder} holds a keyring already", "use it, or set LIFEBOAT_HOME to another folder")
        if not self._open_passphrase():
            raise BadInput("the passphrase is empty")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        for role in ROLES:
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            self._seal(role, pem, work_factor_log2)
        self._seal(LEDGER, str(age.X25519Identity.generate()).encode(), work_factor_log2)
        # Last, so that a keyring either exists whole or can be made again.
        record = canonical.encode({"name": msp.name, "id": msp.id})
        write_atomic(self._folder / "msp.json", record, mode=0o600, layer=self._layer)

    def msp(self) -> Msp:
        """Returns whose keyring this is; raises NotReady if there is none."""
        try:
            value = canonical.decode(read_limited(self._folder / "msp.json", KEYS_BYTES), "msp.json")
        except FileMissing:
            raise NotReady(f"there is no keyring in {self._folder}", "run `lifeboat init`") from None
        return Msp(str(value["name"]), str(value["id"]))

    def signer(self, role: str) -> Signer:
        """Opens one signing key.

        Raises:
            NotReady: Its file is not here (it may lie offline).
            WrongKey: The passphrase does not open it.
        """
        key = serialization.load_pem_private_key(self._unseal(role), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"{role}.key is not an Ed25519 key")
        return CryptoSigner(key)

    def ledger_identity(self) -> age.X25519Identity:
        """Opens the identity that the ledger of bundle identities is encrypted to."""
        return age.X25519Identity.from_string(self._unseal(LEDGER).decode())

    def _open_passphrase(self) -> str:
        if self._passphrase is None:
            self._passphrase = self._ask()
        return self._passphrase

    def _seal(self, name: str, secret: bytes, work_factor_log2: int) -> None:
        sealed = age.encrypt(secret, [age.ScryptRecipient(self._open_passphrase(), work_factor_log2)])
        write_atomic(self._folder / f"{name}.key", sealed, mode=0o600, layer=self._layer)

    def _unseal(self, name: str) -> bytes:
        path = self._folder / f"{name}.key"
        try:
            sealed = read_limited(path, KEYS_BYTES)
            return age.decrypt(sealed, [age.ScryptIdentity(self._open_passphrase())], limit_bytes=KEYS_BYTES)
        except FileMissing:
            raise NotReady(f"{path} is not here", "bring the key back, or run `lifeboat init`") from None
        except AgeError as error:
            raise WrongKey(f"the passphrase does not open {path.name}", "the passphrase of `lifeboat init`") from error
