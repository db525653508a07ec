"""Host and Origin, and the box's own certificates against a real TLS client."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn
from litestar import Litestar, get

from appliance.app import serve
from appliance.edge.hosts import host_allowed, origin_allowed
from appliance.edge.limits import header_bytes
from appliance.edge.tls import Certificate, make_ca, make_leaf
from appliance.edge.tls_shown import Shown

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8443", "192.168.1.9", "[::1]:80", "box.lan", "Box.LAN.:443"]
)
def test_the_box_s_names_and_addresses_are_allowed(host: str) -> None:
    """With and without a port."""
    assert host_allowed(host, ("box.lan",))


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "box.lan.evil.example",
        "localhost.evil",
        "u@localhost",
        "localhost/x",
        "a:b:c",
        "[::1",
        ":80",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    """Foreign names and what is no host at all."""
    assert not host_allowed(host, ("box.lan",))


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://box.lan", True),
        ("https://box.lan:443", True),
        ("http://box.lan", False),
        ("https://box.lan:8443", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
        ("https://box.lan:port", False),
        ("https://[", False),
    ],
)
def test_only_the_box_s_own_pages_are_an_origin(origin: str | None, *, allowed: bool) -> None:
    """Same scheme, host and port."""
    assert origin_allowed(origin, "box.lan", "https") is allowed


def test_header_bytes_counts_names_and_values() -> None:
    """As ASGI gives them."""
    assert header_bytes([(b"ab", b"cde"), (b"f", b"")]) == 6


@get("/")
async def hello() -> str:
    return "hello"


def _served(certificate: Certificate | None) -> tuple[int, threading.Thread, list[uvicorn.Server]]:
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[uvicorn.Server] = []
    app = Litestar([hello], openapi_config=None, logging_config=None)
    shown = None if certificate is None else Shown(certificate)

    def main() -> None:
        with listener:
            asyncio.run(serve(app, listener, tls=shown, on_ready=servers.append))

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    while not (servers and servers[0].started):
        assert thread.is_alive()
    return listener.getsockname()[1], thread, servers


def test_a_client_that_trusts_the_ca_connects(tmp_path: Path) -> None:
    """The leaf verifies against the CA by address; without the CA it does not."""
    ca = make_ca("box-1", NOW)
    port, thread, servers = _served(make_leaf(ca, ["127.0.0.1", "box.lan"], NOW))
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("127.0.0.1", "box.lan"):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as line,
        ):
            line.sendall(b"GET / HTTP/1.1\r\nHost: box.lan\r\nConnection: close\r\n\r\n")
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
    for context, name in ((trusting, "other.lan"), (ssl.create_default_context(), "box.lan")):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            context.wrap_socket(plain, server_hostname=name)
    servers[0].should_exit = True
    thread.join(60)


def test_the_fingerprint_is_the_ca_s_and_keys_are_not_shown() -> None:
    """As browsers show it."""
    ca = make_ca("box-1", NOW)
    assert len(ca.fingerprint.split(":")) == 32
    assert make_ca("box-1", NOW).fingerprint != ca.fingerprint
    assert "PRIVATE" not in repr(ca)


def test_a_leaf_needs_a_host() -> None:
    """A certificate for nobody is a mistake."""
    with pytest.raises(ValueError, match="at least one host"):
        make_leaf(make_ca("x", NOW), [], NOW)


def test_a_bind_that_is_not_loopback_needs_tls() -> None:
    """Refused before anything is served."""
    app = Litestar([hello], openapi_config=None, logging_config=None)
    with (
        socket.create_server(("0.0.0.0", 0)) as listener,
        pytest.raises(ValueError, match="needs TLS"),
    ):
        asyncio.run(serve(app, listener))
