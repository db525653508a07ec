"""The scrypt recipient type: one passphrase (C2SP age, "The scrypt recipient type")."""

import re
import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bundler.format.age import filekey
from bundler.format.age.errors import HeaderFailure
from bundler.format.age.header import Stanza, decode_base64, encode_base64
from bundler.format.age.recipients import PASSPHRASE, SCRYPT

_SALT_BYTES = 16
_LABEL = b"age-encryption.org/v1/scrypt"
# Two digits are all that any machine can compute; longer ones never reach int().
_WORK_FACTOR = re.compile(r"[1-9][0-9]?")
_WORK_FACTORS_LOG2 = range(1, 31)


class ScryptRecipient:
    """A passphrase to encrypt with."""

    __slots__ = ("_passphrase", "_work_factor_log2")

    def __init__(self, passphrase: bytes | str, work_factor_log2: int = 18) -> None:
        """Take a passphrase.

        Args:
            passphrase: not empty; text is taken as UTF-8, not normalised, as `age` does.
            work_factor_log2: 1 to 30; memory is 2**work_factor_log2 KiB, so 18 is 256 MiB and about a second.

        Raises:
            ValueError: an argument is outside these bounds.
        """
        self._passphrase = _as_bytes(passphrase)
        self._work_factor_log2 = _in_range(work_factor_log2)

    def __repr__(self) -> str:
        """Names the work factor only."""
        return f"ScryptRecipient(work_factor_log2={self._work_factor_log2})"

    @property
    def kind(self) -> str:
        """See `Recipient`."""
        return PASSPHRASE

    @property
    def stanza_bytes(self) -> int:
        """See `Recipient`."""
        return len(self._stanza(bytes(_SALT_BYTES), bytes(filekey.WRAPPED_BYTES)).encode())

    def wrap(self, file_key: bytes) -> Stanza:
        """See `Recipient`."""
        salt = secrets.token_bytes(_SALT_BYTES)
        wrap_key = _wrap_key(self._passphrase, salt, self._work_factor_log2)
        return self._stanza(salt, filekey.wrap(wrap_key, file_key))

    def _stanza(self, salt: bytes, body: bytes) -> Stanza:
        return Stanza((SCRYPT, encode_base64(salt), str(self._work_factor_log2)), body)


class ScryptIdentity:
    """A passphrase to decrypt with."""

    __slots__ = ("_max_work_factor_log2", "_passphrase")

    def __init__(self, passphrase: bytes | str, max_work_factor_log2: int = 20) -> None:
        """Take a passphrase.

        Args:
            passphrase: not empty; text is taken as UTF-8.
            max_work_factor_log2: 1 to 30; the most that a file may ask for. 20 is 1 GiB of memory.

        Raises:
            ValueError: an argument is outside these bounds.
        """
        self._passphrase = _as_bytes(passphrase)
        self._max_work_factor_log2 = _in_range(max_work_factor_log2)

    def __repr__(self) -> str:
        """Names the work factor only."""
        return f"ScryptIdentity(max_work_factor_log2={self._max_work_factor_log2})"

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """See `Identity`. That the stanza is alone is checked by `recipients.unwrap`."""
        own = (self._unwrap(stanza) for stanza in stanzas if stanza.type == SCRYPT)
        return next(own, None)

    def _unwrap(self, stanza: Stanza) -> bytes | None:
        if len(stanza.args) != 3:
            raise HeaderFailure(f"scrypt stanza with {len(stanza.args)} arguments, expected 3")
        salt = decode_base64(stanza.args[1], _SALT_BYTES)
        work_factor_log2 = self._parse_work_factor(stanza.args[2])
        filekey.require_wrapped_size(stanza.body)
        return filekey.unwrap(_wrap_key(self._passphrase, salt, work_factor_log2), stanza.body)

    def _parse_work_factor(self, text: str) -> int:
        if not _WORK_FACTOR.fullmatch(text) or int(text) > self._max_work_factor_log2:
            raise HeaderFailure(f"scrypt work factor is not 1 to {self._max_work_factor_log2}")
        return int(text)


def _wrap_key(passphrase: bytes, salt: bytes, work_factor_log2: int) -> bytes:
    # RFC 7914 with r = 8 and p = 1, fixed by the spec.
    return Scrypt(salt=_LABEL + salt, length=32, n=1 << work_factor_log2, r=8, p=1).derive(passphrase)


def _as_bytes(passphrase: bytes | str) -> bytes:
    data = passphrase.encode() if isinstance(passphrase, str) else passphrase
    if not data:
        raise ValueError("a passphrase must not be empty")
    return data


def _in_range(work_factor_log2: int) -> int:
    if work_factor_log2 not in _WORK_FACTORS_LOG2:
        raise ValueError(f"scrypt work factor 2**{work_factor_log2} is outside 2**1 to 2**30")
    return work_factor_log2
