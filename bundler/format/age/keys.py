"""Keys as text, of either kind: classic X25519, or hybrid post-quantum ML-KEM-768 with X25519."""

from __future__ import annotations

from typing import TypeAlias

from bundler.format.age.errors import KeyFailure
from bundler.format.age.hybrid import HybridIdentity, HybridRecipient
from bundler.format.age.x25519 import X25519Identity, X25519Recipient

KeyIdentity: TypeAlias = X25519Identity | HybridIdentity
KeyRecipient: TypeAlias = X25519Recipient | HybridRecipient

CLASSIC_SUITE = "age-x25519"
PQ_SUITE = "age-mlkem768-x25519"
SUITES = (CLASSIC_SUITE, PQ_SUITE)
_HYBRID_IDENTITY, _HYBRID_RECIPIENT = "AGE-SECRET-KEY-PQ-1", "age1pq1"


def generate_identity(suite: str) -> KeyIdentity:
    """Returns a fresh identity of a suite; raises KeyFailure for a suite that is not known."""
    if suite not in SUITES:
        raise KeyFailure(f"suite {suite!r} is not known")
    return HybridIdentity.generate() if suite == PQ_SUITE else X25519Identity.generate()


def parse_identity(text: str) -> KeyIdentity:
    """Returns the identity; raises KeyFailure if the text is none."""
    kind = HybridIdentity if text.upper().startswith(_HYBRID_IDENTITY) else X25519Identity
    return kind.from_string(text)


def parse_recipient(text: str) -> KeyRecipient:
    """Returns the recipient; raises KeyFailure if the text is none."""
    kind = HybridRecipient if text.lower().startswith(_HYBRID_RECIPIENT) else X25519Recipient
    return kind.from_string(text)


def suite_of(recipient: KeyRecipient) -> str:
    return PQ_SUITE if isinstance(recipient, HybridRecipient) else CLASSIC_SUITE
