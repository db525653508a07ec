"""Under which names and certificates a box is reached that listens on every address."""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.host.addresses import own_hosts
from appliance.host.authority import authority_fingerprint
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from bundler.format.errors import BadBundle, NotReady

SECRETS = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)


def test_the_machine_names_itself_and_no_loopback() -> None:
    """The host name comes first; loopback and link-local addresses are of no use to clients."""
    first, *addresses = own_hosts()
    assert first == socket.gethostname()
    for text in addresses:
        address = ipaddress.ip_address(text)
        assert not address.is_loopback
        assert not address.is_link_local


def test_the_ca_is_made_once_and_lost_with_its_seal(tmp_path: Path) -> None:
    """Install, serve and status name the same fingerprint; without the seal's key there is a message, not a new CA."""
    layout = StateLayout(tmp_path / "state")
    layout.make()
    now = datetime(2026, 11, 21, tzinfo=UTC)
    with pytest.raises(NotReady):
        authority_fingerprint(layout, now)
    Seal(layout.keys).store(SECRETS)
    first = authority_fingerprint(layout, now)
    assert authority_fingerprint(layout, now) == first
    assert len(first.split(":")) == 32
    (layout.keys / "seal" / "machine.key").unlink()
    with pytest.raises(BadBundle, match="is gone"):
        authority_fingerprint(layout, now)
