"""DSSE envelopes around statements, signed with the refresh key: for who holds a statement and not the repository.

https://github.com/secure-systems-lab/dsse. The pre-authentication encoding begins with `DSSEv1`, and TUF metadata with
a brace, so no signature of the one is one of the other.
"""

from __future__ import annotations

import json

from securesystemslib.dsse import Envelope

from bundler.format.errors import NotReady
from bundler.provenance.statement import PAYLOAD_TYPE
from bundler.repository.keyring import Keyring
from bundler.repository.roots import Roots


def signed(statement: bytes, keyring: Keyring) -> bytes:
    """Returns the envelope as JSON, with a signature of every refresh key at hand.

    Raises:
        NotReady: Fewer refresh keys are at hand than the repository's metadata needs.
    """
    role = Roots(keyring.home).newest().signed.roles["snapshot"]
    signers = keyring.signers(role.keyids)
    if len(signers) < role.threshold:
        raise NotReady(
            f"the provenance needs {role.threshold} signatures, {len(signers)} can be made here",
            "bring the refresh keys, or take provenance out of [bundle] public",
        )
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True, indent=1).encode() + b"\n"
