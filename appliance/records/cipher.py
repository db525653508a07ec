"""Seals what is kept of prompts, answers and tickets: one key a tenant, derived from the box's sealed secret. Pure.

A sealed record is bound to its place (what it is and whose), so that none can be put in another's stead. A record that
does not open is damaged or of another box, and nothing more is told about it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bundler.format.errors import BadBundle

_NONCE_BYTES = 12  # random: RFC 8439 2.8; one key seals far fewer than 2^32 records
_KEY_BYTES = 32
_KEYS_KEPT = 256


class Cipher:
    """Seals and opens records of one purpose.

    Args:
        secret: The box's sealed secret.
        purpose: What the records are for, such as "journal"; no two purposes share a key.
    """

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._secret, self._purpose = secret, purpose
        self._keyed = lru_cache(_KEYS_KEPT)(self._key)

    def seal(self, tenant: str, place: str, data: bytes) -> bytes:
        """Returns `data` sealed for its place in what a tenant has."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead(tenant).encrypt(nonce, data, place.encode())

    def open(self, tenant: str, place: str, sealed: bytes) -> bytes:
        """Opens what `seal` made.

        Raises:
            BadBundle: It was changed, or sealed for another place, tenant or box.
        """
        if len(sealed) < _NONCE_BYTES:
            raise BadBundle(f"the sealed record {place} is cut short")
        try:
            return self._aead(tenant).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise BadBundle(f"the sealed record {place} was changed, or is another box's") from None

    def name(self, tenant: str, text: bytes) -> str:
        """Returns a name for a text that tells nothing of it to who has no key, and differs between tenants."""
        return hmac.new(self._keyed(f"name {tenant}"), text, hashlib.sha256).hexdigest()

    def _aead(self, tenant: str) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self._keyed(f"seal {tenant}"))

    def _key(self, use: str) -> bytes:
        info = f"lifeboat {self._purpose} 1\0{use}".encode()
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(self._secret)
