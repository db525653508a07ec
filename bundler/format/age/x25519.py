"""The X25519 recipient type (C2SP age, "The X25519 recipient type")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from bundler.format.age import bech32, filekey
from bundler.format.age.errors import HeaderFailure, KeyFailure
from bundler.format.age.header import Stanza, decode_base64, encode_base64
from bundler.format.age.recipients import CLASSIC

_TYPE = "X25519"
_INFO = b"age-encryption.org/v1/X25519"
_KEY_BYTES = 32


@dataclass(frozen=True)
class X25519Recipient:
    """A public key.

    Attributes:
        public: 32 bytes, a point of Curve25519 that is not of low order.
    """

    public: bytes

    def __post_init__(self) -> None:
        """Refuse keys with which everybody would agree on the same secret."""
        if len(self.public) != _KEY_BYTES:
            raise KeyFailure(f"X25519 recipient of {len(self.public)} bytes, expected {_KEY_BYTES}")
        try:
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(self.public))
        except ValueError:
            raise KeyFailure("X25519 recipient is a low-order point") from None

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read `age1...`.

        Raises:
            KeyFailure: it is not an X25519 recipient.
        """
        return cls(bech32.decode(text, "age"))

    def __str__(self) -> str:
        """The `age1...` form."""
        return bech32.encode("age", self.public)

    @property
    def kind(self) -> str:
        """See `Recipient`."""
        return CLASSIC

    @property
    def stanza_bytes(self) -> int:
        """See `Recipient`."""
        return len(_stanza(bytes(_KEY_BYTES), bytes(filekey.WRAPPED_BYTES)).encode())

    def wrap(self, file_key: bytes) -> Stanza:
        """See `Recipient`."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        return _stanza(share, filekey.wrap(_wrap_key(secret, share, self.public), file_key))


class X25519Identity:
    """A private key. `str()` gives the secret, `repr()` never does."""

    __slots__ = ("_public", "_secret")

    def __init__(self, secret: bytes) -> None:
        """Take a private key.

        Args:
            secret: 32 random bytes.

        Raises:
            KeyFailure: another number of bytes.
        """
        if len(secret) != _KEY_BYTES:
            raise KeyFailure(f"X25519 identity of {len(secret)} bytes, expected {_KEY_BYTES}")
        self._secret = X25519PrivateKey.from_private_bytes(secret)
        self._public = self._secret.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """A new private key."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read `AGE-SECRET-KEY-1...`.

        Raises:
            KeyFailure: it is not an X25519 identity.
        """
        return cls(bech32.decode(text, "age-secret-key-"))

    def __str__(self) -> str:
        """The `AGE-SECRET-KEY-1...` form: a secret."""
        return bech32.encode("age-secret-key-", self._secret.private_bytes_raw()).upper()

    def __repr__(self) -> str:
        """Names the public key only."""
        return f"X25519Identity(recipient={self.recipient})"

    @property
    def recipient(self) -> X25519Recipient:
        """Its public key."""
        return X25519Recipient(self._public)

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """See `Identity`."""
        own = (self._unwrap(stanza) for stanza in stanzas if stanza.type == _TYPE)
        return next((file_key for file_key in own if file_key is not None), None)

    def _unwrap(self, stanza: Stanza) -> bytes | None:
        if len(stanza.args) != 2:
            raise HeaderFailure(f"X25519 stanza with {len(stanza.args)} arguments, expected 2")
        share = decode_base64(stanza.args[1], _KEY_BYTES)
        filekey.require_wrapped_size(stanza.body)
        secret = agree(self._secret, share)
        return filekey.unwrap(_wrap_key(secret, share, self._public), stanza.body)


def agree(secret: X25519PrivateKey, share: bytes) -> bytes:
    """The shared secret, 32 bytes.

    Raises:
        HeaderFailure: the share is a low-order point, which makes the secret zero (RFC 7748 6.1).
    """
    try:
        return secret.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise HeaderFailure("X25519 share is a low-order point") from None


def _wrap_key(secret: bytes, share: bytes, public: bytes) -> bytes:
    return filekey.hkdf(secret, salt=share + public, info=_INFO)


def _stanza(share: bytes, body: bytes) -> Stanza:
    return Stanza((_TYPE, encode_base64(share)), body)
