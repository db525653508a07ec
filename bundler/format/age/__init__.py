"""age v1 on `cryptography` alone, with a seekable reader (https://c2sp.org/age).

Three rings: `header` (bytes to stanzas, no cryptography), `stream` (bytes to bytes, no header), and
`writer` and `reader`, which join them. Armor is left out: bundles are binary.
"""

from bundler.format.age.errors import AgeError, HeaderFailure, HmacFailure, KeyFailure, NoMatch, PayloadFailure
from bundler.format.age.hybrid import HybridIdentity, HybridRecipient
from bundler.format.age.keys import (
    CLASSIC_SUITE,
    PQ_SUITE,
    SUITES,
    KeyIdentity,
    KeyRecipient,
    generate_identity,
    parse_identity,
    parse_recipient,
    suite_of,
)
from bundler.format.age.reader import Reader, decrypt
from bundler.format.age.recipients import Identity, Recipient, header_size
from bundler.format.age.scrypt import ScryptIdentity, ScryptRecipient
from bundler.format.age.writer import Writer, encrypt, encrypted_size
from bundler.format.age.x25519 import X25519Identity, X25519Recipient

__all__ = [
    "CLASSIC_SUITE",
    "PQ_SUITE",
    "SUITES",
    "AgeError",
    "HeaderFailure",
    "HmacFailure",
    "HybridIdentity",
    "HybridRecipient",
    "Identity",
    "KeyFailure",
    "KeyIdentity",
    "KeyRecipient",
    "NoMatch",
    "PayloadFailure",
    "Reader",
    "Recipient",
    "ScryptIdentity",
    "ScryptRecipient",
    "Writer",
    "X25519Identity",
    "X25519Recipient",
    "decrypt",
    "encrypt",
    "encrypted_size",
    "generate_identity",
    "header_size",
    "parse_identity",
    "parse_recipient",
    "suite_of",
]
