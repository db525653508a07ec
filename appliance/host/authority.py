"""The box's own certificate authority: made once, its key under the seal."""

from __future__ import annotations

from datetime import datetime

from appliance.edge.tls import Certificate, make_ca
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.format.errors import NotReady

_FILE = "authority"


def authority_fingerprint(layout: StateLayout, now: datetime) -> str:
    """Returns the SHA-256 by which people recognise the box's CA; the box must be enrolled."""
    seal = Seal(layout.keys)
    return box_authority(seal, seal.open().site, now).fingerprint


def box_authority(seal: Seal, site: str, now: datetime) -> Certificate:
    """Returns the box's CA; makes it at first use."""
    try:
        certificate, _, key = seal.open_file(_FILE).partition(b"\0")
    except NotReady:
        made = make_ca(site, now)
        seal.store_file(_FILE, made.cert_pem + b"\0" + made.key_pem)
        return made
    return Certificate(certificate, key)
