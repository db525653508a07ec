"""Where a box listens, and what clients are told."""

from __future__ import annotations

import socket

import pytest

from appliance.host.addresses import own_hosts
from appliance.host.listen import Listen, bind, client_urls, url_of


@pytest.mark.parametrize(("host", "local"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_url_of_this_machine_can_be_used(host: str, local: str) -> None:
    """The address that means all of them is no place to go to."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with bind(host, 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener, tls=False) == f"http://{local}:{port}"


def test_clients_are_told_names_and_addresses() -> None:
    """Those that the operator names first, then all that this machine has."""
    with bind("0.0.0.0", 0) as listener:
        port = listener.getsockname()[1]
        told = client_urls(listener, Listen("0.0.0.0", port, ("box.example",), None), tls=True)
        assert told[0] == f"https://box.example:{port}"
        assert len(told) == 1 + len(own_hosts())
        assert not [url for url in told if "0.0.0.0" in url]
        alone = Listen("127.0.0.1", port, (), None)
        assert client_urls(listener, alone, tls=False) == (f"http://127.0.0.1:{port}",)
