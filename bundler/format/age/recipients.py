"""What a recipient and an identity are, and which of them may stand together in one header."""

from collections.abc import Sequence
from typing import Protocol

from bundler.format.age import header
from bundler.format.age.errors import HeaderFailure, NoMatch
from bundler.format.age.header import Header, Stanza

CLASSIC = "classic"
POSTQUANTUM = "postquantum"
PASSPHRASE = "passphrase"  # noqa: S105 - the name of a kind, no secret
SCRYPT = "scrypt"


class Recipient(Protocol):
    """Somebody a file is encrypted to."""

    @property
    def kind(self) -> str:
        """`CLASSIC`, `POSTQUANTUM` or `PASSPHRASE`."""

    @property
    def stanza_bytes(self) -> int:
        """Length of its stanza in the header, the same for every file."""

    def wrap(self, file_key: bytes) -> Stanza:
        """Wrap the file key with fresh randomness."""


class Identity(Protocol):
    """Somebody who can open a file."""

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """The file key, or None where no stanza is for this identity.

        Raises:
            HeaderFailure: a stanza of its own type is malformed.
        """


def wrap_all(recipients: Sequence[Recipient], file_key: bytes) -> list[Stanza]:
    """Wrap a file key to everybody.

    Raises:
        ValueError: nobody, a passphrase beside anything else, or post-quantum beside classic recipients.
    """
    _require_one_kind(recipients)
    return [recipient.wrap(file_key) for recipient in recipients]


def header_size(recipients: Sequence[Recipient]) -> int:
    """Length in bytes of the header of any file to these recipients, to plan sizes before writing."""
    return header.size_of(sum(recipient.stanza_bytes for recipient in recipients))


def unwrap(found: Header, identities: Sequence[Identity]) -> bytes:
    """The file key, from the first identity that opens a stanza. The caller still has to check the MAC.

    Raises:
        HeaderFailure: a stanza is malformed, or a passphrase stanza is not alone.
        NoMatch: no identity opens any stanza.
    """
    if len(found.stanzas) > 1 and any(stanza.type == SCRYPT for stanza in found.stanzas):
        # C2SP age, scrypt: knowing the passphrase implies authorship only while nobody else holds the file key.
        raise HeaderFailure("a passphrase stanza must be alone")
    for identity in identities:
        file_key = identity.unwrap(found.stanzas)
        if file_key is not None:
            return file_key
    raise NoMatch(f"none of {len(identities)} identities opens any of {len(found.stanzas)} stanzas")


def _require_one_kind(recipients: Sequence[Recipient]) -> None:
    kinds = {recipient.kind for recipient in recipients}
    if not recipients:
        raise ValueError("a file needs at least one recipient")
    if PASSPHRASE in kinds and len(recipients) > 1:
        raise ValueError("a passphrase must be the only recipient")
    if len(kinds) > 1:
        # C2SP age, MLKEM768-X25519: a classic stanza would undo the protection of the hybrid ones.
        raise ValueError("post-quantum and classic recipients do not share a file")
