"""The MLKEM768-X25519 recipient type, safe against quantum computers (C2SP age, "mlkem768x25519").

HPKE SealBase (RFC 9180 6.1) with KEM MLKEM768-X25519 (X-Wing), HKDF-SHA256 and ChaCha20Poly1305.
"""

import functools
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from bundler.format.age import bech32, filekey
from bundler.format.age.errors import HeaderFailure, KeyFailure
from bundler.format.age.header import Stanza, decode_base64, encode_base64
from bundler.format.age.recipients import POSTQUANTUM
from bundler.format.age.x25519 import agree

_TYPE = "mlkem768x25519"
_INFO = b"age-encryption.org/mlkem768x25519"
_SEED_BYTES = 32
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SHARE_BYTES = 1088
_X25519_BYTES = 32
_PUBLIC_BYTES = _MLKEM_PUBLIC_BYTES + _X25519_BYTES
_SHARE_BYTES = _MLKEM_SHARE_BYTES + _X25519_BYTES


@dataclass(frozen=True)
class HybridRecipient:
    """A public key.

    Attributes:
        public: 1,216 bytes, an ML-KEM-768 encapsulation key and a Curve25519 point.
    """

    public: bytes

    def __post_init__(self) -> None:
        """Refuse keys that can't be used, before a file depends on them."""
        if len(self.public) != _PUBLIC_BYTES:
            raise KeyFailure(f"hybrid recipient of {len(self.public)} bytes, expected {_PUBLIC_BYTES}")
        try:
            # FIPS 203 7.2 checks the modulus; sealing once shows a low-order point too.
            _suite().encrypt(b"", self._key(), _INFO)
        except ValueError:
            raise KeyFailure("hybrid recipient is not a valid ML-KEM-768 key and Curve25519 point") from None

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read `age1pq1...`.

        Raises:
            KeyFailure: it is not a hybrid recipient.
        """
        return cls(bech32.decode(text, "age1pq"))

    def __str__(self) -> str:
        """The `age1pq1...` form, 1,959 characters."""
        return bech32.encode("age1pq", self.public)

    @property
    def kind(self) -> str:
        """See `Recipient`."""
        return POSTQUANTUM

    @property
    def stanza_bytes(self) -> int:
        """See `Recipient`."""
        return len(_stanza(bytes(_SHARE_BYTES + filekey.WRAPPED_BYTES)).encode())

    def wrap(self, file_key: bytes) -> Stanza:
        """See `Recipient`."""
        return _stanza(_suite().encrypt(file_key, self._key(), _INFO))

    def _key(self) -> MLKEM768X25519PublicKey:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC_BYTES:]),
        )


class HybridIdentity:
    """A private key. `str()` gives the secret, `repr()` never does."""

    __slots__ = ("_mlkem", "_seed", "_x25519")

    def __init__(self, seed: bytes) -> None:
        """Take a private key.

        Args:
            seed: 32 random bytes.

        Raises:
            KeyFailure: another number of bytes.
        """
        if len(seed) != _SEED_BYTES:
            raise KeyFailure(f"hybrid identity of {len(seed)} bytes, expected {_SEED_BYTES}")
        # X-Wing 5.2, expandDecapsulationKey.
        expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + _X25519_BYTES)
        self._seed = seed
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])

    @classmethod
    def generate(cls) -> Self:
        """A new private key."""
        return cls(secrets.token_bytes(_SEED_BYTES))

    @classmethod
    def from_string(cls, text: str) -> Self:
        """Read `AGE-SECRET-KEY-PQ-1...`.

        Raises:
            KeyFailure: it is not a hybrid identity.
        """
        return cls(bech32.decode(text, "age-secret-key-pq-"))

    def __str__(self) -> str:
        """The `AGE-SECRET-KEY-PQ-1...` form: a secret."""
        return bech32.encode("age-secret-key-pq-", self._seed).upper()

    def __repr__(self) -> str:
        """Names the first characters of the public key only."""
        return f"HybridIdentity(recipient={str(self.recipient)[:20]}...)"

    @property
    def recipient(self) -> HybridRecipient:
        """Its public key."""
        mlkem, x25519 = self._mlkem.public_key(), self._x25519.public_key()
        return HybridRecipient(mlkem.public_bytes_raw() + x25519.public_bytes_raw())

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """See `Identity`."""
        own = (self._unwrap(stanza) for stanza in stanzas if stanza.type == _TYPE)
        return next((file_key for file_key in own if file_key is not None), None)

    def _unwrap(self, stanza: Stanza) -> bytes | None:
        if len(stanza.args) != 2:
            raise HeaderFailure(f"{_TYPE} stanza with {len(stanza.args)} arguments, expected 2")
        share = decode_base64(stanza.args[1], _SHARE_BYTES)
        filekey.require_wrapped_size(stanza.body)
        # HPKE answers InvalidTag to a low-order point as it does to a foreign stanza: told apart here.
        agree(self._x25519, share[_MLKEM_SHARE_BYTES:])
        try:
            return _suite().decrypt(share + stanza.body, MLKEM768X25519PrivateKey(self._mlkem, self._x25519), _INFO)
        except InvalidTag:
            return None


@functools.cache
def _suite() -> Suite:
    """Made at first use: an OpenSSL without ML-KEM must not take X25519 files with it."""
    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _stanza(sealed: bytes) -> Stanza:
    return Stanza((_TYPE, encode_base64(sealed[:_SHARE_BYTES])), sealed[_SHARE_BYTES:])
