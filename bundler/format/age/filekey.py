"""The 16-byte file key and what is derived from it (C2SP age, "File key", "Header MAC", "Payload")."""

import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bundler.format.age.errors import HeaderFailure

FILE_KEY_BYTES = 16
WRAPPED_BYTES = 32  # the file key and a Poly1305 tag
# Safe only because every wrap key is fresh: its salt holds an ephemeral share or a random salt.
_ZERO_NONCE = bytes(12)


def generate() -> bytes:
    """A new file key; it must never serve two files."""
    return secrets.token_bytes(FILE_KEY_BYTES)


def hkdf(key: bytes, *, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869) to 32 bytes."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def header_mac(file_key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA-256 over the header up to and including `---`, 32 bytes."""
    return hmac.digest(hkdf(file_key, salt=b"", info=b"header"), signed, "sha256")


def payload_key(file_key: bytes, nonce: bytes) -> bytes:
    """The 32-byte key of the payload; `nonce` is the 16 bytes after the header."""
    return hkdf(file_key, salt=nonce, info=b"payload")


def wrap(wrap_key: bytes, file_key: bytes) -> bytes:
    """Encrypt the file key under a key that is used for nothing else; 32 bytes."""
    return ChaCha20Poly1305(wrap_key).encrypt(_ZERO_NONCE, file_key, None)


def unwrap(wrap_key: bytes, body: bytes) -> bytes | None:
    """Decrypt the file key, or None where the body is another recipient's."""
    try:
        return ChaCha20Poly1305(wrap_key).decrypt(_ZERO_NONCE, body, None)
    except InvalidTag:
        return None


def require_wrapped_size(body: bytes) -> None:
    """Refuse bodies that could hold anything but a file key.

    Raises:
        HeaderFailure: not 32 bytes; decrypting first would open a partitioning oracle (C2SP age, X25519).
    """
    if len(body) != WRAPPED_BYTES:
        raise HeaderFailure(f"wrapped key of {len(body)} bytes, expected {WRAPPED_BYTES}")
