"""The settings of a serving process, read from the state: keys of providers, and where the gateway remembers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from appliance.settings import Settings, credential_of, read_cas, read_keys
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.secrets import Secrets
from bundler.format.service import Service


def settings_of(service: Service, hosts: Sequence[str], ca_pem: bytes, layout: StateLayout, seal: Seal) -> Settings:
    """Returns the settings of one version on this box.

    Args:
        service: What the version serves.
        hosts: Names by which clients reach the box.
        ca_pem: The box CA's certificate, or b"".
        layout: The state.
        seal: Opens the secrets, as they are whenever one is asked for.
    """
    secret, kept = f"lifeboat gateway {seal.open().version_secret}", Secrets(seal).read()
    return Settings(
        hosts=tuple(hosts),
        keys=read_keys(service, kept),
        cas=read_cas(service.upstreams, kept),
        ca_pem=ca_pem,
        kept=layout.gateway,
        pin=layout.pin,
        secret=hashlib.sha256(secret.encode()).digest(),
        credential=lambda named: credential_of(named, Secrets(seal).read()),
    )
