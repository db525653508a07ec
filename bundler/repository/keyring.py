"""The MSP's keys under `LIFEBOAT_HOME/keyring`: Ed25519 signing keys, the ledger's age identity, and tokens of hubs.

Each secret lies in its own file, encrypted by age with the passphrase (scrypt), so that `root.key` can be moved offline
and an unattended job can be given `refresh.key` alone. Beside it lies the public half, so that nobody is asked for a
passphrase before it is known that the key is of use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from bundler.files import DISK, FileLayer, exclusive, make_folder, read_limited, write_atomic
from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, BadInput, Busy, FileMissing, NotReady, WrongKey
from bundler.format.limits import KEYS_BYTES
from bundler.format.record import from_json

ROLES = ("root", "release", "refresh")
LEDGER = "ledger"
KEY, TOKEN = ".key", ".token"
WORK_FACTOR_LOG2 = 18
_MAKING = ".making"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True)
class Msp:
    """Who owns the keyring: a display name and a random id that stands in every root."""

    name: str
    id: str


class Keyring:
    """Opens keys one by one, only when they are needed, and each once.

    Args:
        home: LIFEBOAT_HOME.
        passphrase: Asks for the passphrase; called at most once.
        layer: Where faults can be put.
    """

    def __init__(self, home: Path, passphrase: Callable[[], str], layer: FileLayer = DISK) -> None:
        self.home = home
        self.folder = home / "keyring"
        self._ask, self._layer = passphrase, layer
        self._passphrase: str | None = None
        self._signers: dict[str, Signer] = {}
        self._ledger: age.X25519Identity | None = None

    @property
    def exists(self) -> bool:
        return (self.folder / "msp.json").exists()

    def create(self, msp: Msp, work_factor_log2: int = WORK_FACTOR_LOG2) -> None:
        """Makes the three signing keys and the ledger's identity.

        Raises:
            Busy: There is a keyring already; it is never written over.
            BadInput: The passphrase is empty.
        """
        making = self.folder / _MAKING
        if self.exists or (any(self.folder.glob("*.key")) and not making.exists()):
            raise Busy(f"{self.folder} holds keys already", "use them, or set LIFEBOAT_HOME to another folder")
        if not self._open_passphrase():
            raise BadInput("the passphrase is empty")
        make_folder(self.folder, self._layer)
        self.folder.chmod(0o700)
        write_atomic(making, b"", mode=0o600, layer=self._layer)
        for role in ROLES:
            self._make(role, work_factor_log2)
        self._seal(f"{LEDGER}{KEY}", str(age.X25519Identity.generate()).encode(), work_factor_log2)
        # Last, so that a keyring either exists whole or can be made again.
        record = canonical.encode({"name": msp.name, "id": msp.id})
        write_atomic(self.folder / "msp.json", record, mode=0o600, layer=self._layer)
        making.unlink()

    def adopt(self, msp: Msp) -> None:
        """Takes up an MSP whose keys were restored from their cards; raises Busy as `require_none`."""
        self.require_none()
        record = canonical.encode({"name": msp.name, "id": msp.id})
        write_atomic(self.folder / "msp.json", record, mode=0o600, layer=self._layer)

    def require_none(self) -> None:
        """Raises Busy if there is a keyring already: it is never written over."""
        if self.exists:
            raise Busy(f"{self.folder} holds a keyring already", "use it, or set LIFEBOAT_HOME to another folder")

    def change_passphrase(self, new: Callable[[], str], work_factor_log2: int = WORK_FACTOR_LOG2) -> list[str]:
        """Encrypts every key and token here with another passphrase; a stopped call is finished by the same call.

        Args:
            new: Asks for the new passphrase, once.
            work_factor_log2: Of its scrypt.

        Returns:
            The names of the keys.

        Raises:
            NotReady: There is no key here.
            WrongKey: Neither passphrase opens a key; those before it are changed already.
        """
        names = self._keys()
        files = names + sorted(path.name for path in self.folder.glob(f"*{TOKEN}"))
        if not names:
            raise NotReady(f"there is no key in {self.folder}", "run `lifeboat init`, or name the home with --home")
        secrets, fresh = {}, new()
        if not fresh:
            raise BadInput("the new passphrase is empty")
        for file in files:
            try:
                secrets[file] = self.unseal(file)
            except WrongKey:
                self._decrypted(self._sealed(file), fresh, file)  # an earlier call came as far as this
        self._passphrase = fresh
        for file, secret in secrets.items():
            self._seal(file, secret, work_factor_log2)
        return [name.removesuffix(KEY) for name in names]

    def seal(self, file: str, secret: bytes, work_factor_log2: int = WORK_FACTOR_LOG2) -> None:
        """Encrypts one more secret into a file of the keyring, once the passphrase opened what is here.

        Raises:
            NotReady: There is no keyring, or no key of it here.
            WrongKey: The passphrase is another one.
        """
        self.msp()
        keys = self._keys()
        if not keys:
            raise NotReady(f"there is no key in {self.folder}", "bring one back: the passphrase is tried with it")
        with exclusive(self.folder / ".lock", f"another command is writing {self.folder}"):
            self.unseal(keys[0])  # a passphrase with a typing error would encrypt it for nobody
            self._seal(file, secret, work_factor_log2)

    def remove(self, file: str) -> None:
        """Removes a file that `seal` wrote."""
        with exclusive(self.folder / ".lock", f"another command is writing {self.folder}"):
            self._layer.remove(self.folder / file)
            self._layer.sync_folder(self.folder)

    def _keys(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(f"*{KEY}"))

    def msp(self) -> Msp:
        """Returns whose keyring this is.

        Raises:
            NotReady: There is none.
            BadInput: Its record is damaged.
        """
        path = self.folder / "msp.json"
        try:
            return from_json(Msp, canonical.decode(read_limited(path, KEYS_BYTES), path.name), path.name)
        except FileMissing:
            raise NotReady(f"there is no keyring in {self.folder}", "run `lifeboat init`") from None
        except BadBundle as error:
            raise BadInput(f"{path} is damaged: {error.fact}", "restore it from a backup of the home") from error

    def new_key(self, name: str, work_factor_log2: int = WORK_FACTOR_LOG2) -> Key:
        """Makes one more signing key; a role must be given to it by the root before it counts.

        Raises:
            BadInput: The name cannot be one.
            Busy: There is such a key.
            NotReady: There is no keyring; nothing was made.
        """
        self.msp()
        with exclusive(self.folder / ".lock", f"another command is writing {self.folder}"):
            return self._new_key(_checked(name), work_factor_log2)

    def _new_key(self, name: str, work_factor_log2: int) -> Key:
        if (self.folder / f"{name}.pub").exists():
            raise Busy(f"there is a key {name} already", "give the new key another name")
        if self.has_secret(name):  # an earlier call was stopped between the two files
            self._write_public(name, self.signer(name).public_key)
        else:
            self._make(name, work_factor_log2)
        return self.public(name)

    def names(self) -> list[str]:
        """Returns the names of all signing keys whose public half is here."""
        return sorted(path.stem for path in self.folder.glob("*.pub"))

    def public(self, name: str) -> Key:
        """Returns the public half of a signing key; needs no passphrase."""
        return read_public(self.folder / f"{name}.pub")

    def has_secret(self, name: str) -> bool:
        return (self.folder / f"{name}.key").exists()

    def at_hand(self, keyids: Collection[str]) -> list[str]:
        """Returns the names of those of the keys whose secret half is here; needs no passphrase."""
        return [name for name in self.names() if self.has_secret(name) and self.public(name).keyid in keyids]

    def signers(self, keyids: Collection[str]) -> list[Signer]:
        """Opens those of the named keys that are at hand."""
        return [self.signer(name) for name in self.at_hand(keyids)]

    def signer(self, name: str) -> Signer:
        """Opens one signing key.

        Raises:
            NotReady: Its file is not here (it may lie offline).
            WrongKey: The passphrase does not open it.
        """
        if name not in self._signers:
            self._signers[name] = CryptoSigner(_private(self.unseal(f"{name}{KEY}"), f"{name}{KEY}"))
        return self._signers[name]

    def sealed(self, name: str) -> bytes:
        """Returns the encrypted file of a key, for its card; raises NotReady if it is not here."""
        return self._sealed(f"{name}{KEY}")

    def restore(self, name: str, sealed: bytes) -> str:
        """Takes a key back from its card.

        Returns:
            The key's id; for the ledger's identity, its public recipient.

        Raises:
            Busy: There is such a key.
            WrongKey: The passphrase does not open it; nothing was written.
            BadInput: The card is another key's than the public half that lies here.
        """
        if name != LEDGER:
            _checked(name)
        if self.has_secret(name):
            raise Busy(f"there is a key {name} already", "move it away first")
        secret = self._opened(sealed, f"the card of {name}")
        if name == LEDGER:
            told = str(_ledger_identity(secret).recipient)
        else:
            public = CryptoSigner(_private(secret, f"the card of {name}")).public_key
            told = public.keyid
            known = {self.public(other).keyid: other for other in self.names()}
            if known.get(told, name) != name or (name in known.values() and told not in known):
                raise BadInput(
                    f"this is not the card of {name}, but of {known.get(told, 'a key that is not known here')}"
                )
            self._write_public(name, public)
        write_atomic(self.folder / f"{name}.key", sealed, mode=0o600, layer=self._layer)
        self.folder.chmod(0o700)
        return told

    def ledger_identity(self) -> age.X25519Identity:
        """Opens the identity that the ledger of bundle identities is encrypted to, once."""
        if self._ledger is None:
            self._ledger = _ledger_identity(self.unseal(f"{LEDGER}{KEY}"))
        return self._ledger

    def _open_passphrase(self) -> str:
        if self._passphrase is None:
            self._passphrase = self._ask()
        return self._passphrase

    def _make(self, name: str, work_factor_log2: int) -> None:
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._seal(f"{name}{KEY}", pem, work_factor_log2)
        self._write_public(name, CryptoSigner(private).public_key)

    def _write_public(self, name: str, key: Key) -> None:
        record = canonical.encode({"ed25519": key.keyval["public"]})
        write_atomic(self.folder / f"{name}.pub", record, mode=0o600, layer=self._layer)

    def _seal(self, file: str, secret: bytes, work_factor_log2: int) -> None:
        sealed = age.encrypt(secret, [age.ScryptRecipient(self._open_passphrase(), work_factor_log2)])
        write_atomic(self.folder / file, sealed, mode=0o600, layer=self._layer)

    def unseal(self, file: str) -> bytes:
        """Decrypts a file of the keyring; raises NotReady, WrongKey or BadInput where that cannot be."""
        return self._opened(self._sealed(file), file)

    def _sealed(self, file: str) -> bytes:
        try:
            return read_limited(self.folder / file, KEYS_BYTES)
        except FileMissing:
            raise NotReady(f"{self.folder / file} is not here", "bring the key back, or run `lifeboat init`") from None

    def _opened(self, sealed: bytes, what: str) -> bytes:
        return self._decrypted(sealed, self._open_passphrase(), what)

    def _decrypted(self, sealed: bytes, passphrase: str, what: str) -> bytes:
        try:
            return age.decrypt(sealed, [age.ScryptIdentity(passphrase)], limit_bytes=KEYS_BYTES)
        except age.NoMatch as error:
            raise WrongKey(f"the passphrase does not open {what}", "the passphrase of `lifeboat init`") from error
        except AgeError as error:
            raise BadInput(f"{what} is damaged: {error}", "restore it from its card or a copy") from error


def _checked(name: str) -> str:
    """Returns a name that a signing key may have; raises BadInput otherwise."""
    if not _NAME.fullmatch(name) or name == LEDGER:
        raise BadInput(f"key name {name!r} may hold lower-case letters, digits and '-' only, 40 at most")
    return name


def _private(secret: bytes, what: str) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(secret, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{what} holds no signing key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{what} holds no Ed25519 key")
    return key


def _ledger_identity(secret: bytes) -> age.X25519Identity:
    try:
        return age.X25519Identity.from_string(secret.decode())
    except ValueError as error:
        raise BadInput("this is not the ledger's identity") from error


def read_public(path: Path) -> Key:
    """Reads a public key file, as `keys new` writes it; its id is computed here and never believed.

    Raises:
        NotReady: There is none.
        BadInput: It is no Ed25519 public key.
    """
    try:
        value = canonical.decode(read_limited(path, KEYS_BYTES).strip(), path.name)
    except FileMissing:
        raise NotReady(f"{path} is not here", "see `lifeboat keys list`") from None
    except BadBundle as error:
        raise BadInput(f"{path} is no public key: {error.fact}", "name the .pub file of the key") from error
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(value["ed25519"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no Ed25519 public key") from error
    return SSlibKey.from_crypto(public)
