"""An upstream's own authority and proxy: a real TLS server and a real CONNECT proxy, on loopback."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.settings import Settings
from bundler.format.service import WireSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
ANSWER = {"id": "x", "model": "m", "choices": [{"message": {"content": "over TLS"}, "finish_reason": "stop"}]}


class Authority:
    """Signs certificates of 127.0.0.1."""

    def __init__(self, name: str) -> None:
        self._name, self._key = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), _key()
        self._certificate = self._signed(self._name, self._key, NOW + DAY, ca=True)
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(self, folder: Path, ends: datetime.datetime) -> ssl.SSLContext:
        """Returns the context of a server with a fresh certificate."""
        key = _key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        certificate = self._signed(name, key, ends, ca=False)
        path = folder / "server.pem"
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime.datetime, *, ca: bool
    ) -> x509.Certificate:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | dict.fromkeys(("encipher_only", "decipher_only"), False)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 3 * DAY)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=ca, crl_sign=ca, **usage), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Place:
    """A provider with TLS, and a proxy."""

    authority: Authority
    stack: ExitStack
    folder: Path
    joined: Callable[[socket.socket, socket.socket], None]
    tunnels: list[str] = field(default_factory=list)

    def provider(self, ends: datetime.datetime = NOW + DAY) -> str:
        """Starts a provider; returns its base URL."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(ANSWER).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = self.authority.server(self.folder, ends)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        for closing in (server.server_close, thread.join, server.shutdown):
            self.stack.callback(closing)
        return f"https://127.0.0.1:{server.server_address[1]}/v1"

    def proxy(self) -> str:
        """Starts a proxy that opens tunnels and notes where to; returns its URL."""
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return  # the test is over
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def _tunnel(self, client: socket.socket) -> None:
        with client:
            head = client.recv(4096).decode()
            self.tunnels.append(head.split()[1])
            host, port = head.split()[1].split(":")
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self.joined(client, server)


@pytest.fixture
def place(tmp_path: Path, joined: Callable[[socket.socket, socket.socket], None]) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(Authority("Of the test"), stack, tmp_path, joined)


def _at(url: str, wire: WireSpec, *egress: str) -> Callable[[FakeBox], None]:
    def change(box: FakeBox) -> None:
        first = replace(box.service.upstreams[0], base_url=url, wire=wire, connect_timeout_ms=5_000)
        box.service = replace(box.service, upstreams=(first,))
        box.policy.egress = (url.removesuffix("/v1"), *egress)

    return change


def _asked(worlds: Worlds, change: Callable[[FakeBox], None], **settings: Any) -> Any:
    world: World = worlds.make(settings=Settings(probe_s=0, **settings), change=change)
    return world.chat().json()


def test_an_authority_of_the_profile_is_trusted_for_its_upstream(worlds: Worlds, place: Place) -> None:
    """As PEM in the profile, or as a secret of the box."""
    url = place.provider()
    found = _asked(worlds, _at(url, WireSpec(ca=place.authority.pem)))
    assert found["choices"][0]["message"]["content"] == "over TLS"
    found = _asked(worlds, _at(url, WireSpec(ca="OUR-CA")), cas={"alpha": place.authority.pem})
    assert found["lifeboat"]["rung"] == "alpha"


def test_a_certificate_that_nobody_trusts_is_a_reason(worlds: Worlds, place: Place) -> None:
    """Of another authority, of one that the machine has not, or out of date: the local model serves, and says why."""
    foreign, late = place.provider(), place.provider(ends=NOW - DAY)
    wires = [(foreign, WireSpec()), (foreign, WireSpec(ca=Authority("Another").pem))]
    for url, wire in [*wires, (late, WireSpec(ca=place.authority.pem))]:
        lifeboat = _asked(worlds, _at(url, wire))["lifeboat"]
        assert lifeboat["rung"] == "small"
        assert "certificate" in lifeboat["reason"][0]


def test_an_authority_that_is_none_switches_the_upstream_off(worlds: Worlds, place: Place) -> None:
    """A secret that is not set, or holds no certificate."""
    url = place.provider()
    lifeboat = _asked(worlds, _at(url, WireSpec(ca="OUR-CA")))["lifeboat"]
    assert lifeboat["reason"] == ["alpha: its authority OUR-CA is not set on this box"]
    lifeboat = _asked(worlds, _at(url, WireSpec(ca="OUR-CA")), cas={"alpha": "no certificate"})["lifeboat"]
    assert lifeboat["reason"] == ["alpha: its authority is no certificate in PEM"]


def test_a_proxy_tunnels_to_its_upstream_alone(worlds: Worlds, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees where to and nothing else; one of the environment is never asked, nor one that the policy lacks."""
    url, proxy, other = place.provider(), place.proxy(), place.proxy()
    monkeypatch.setenv("HTTPS_PROXY", other)
    monkeypatch.setenv("ALL_PROXY", other)
    plain, through = WireSpec(ca=place.authority.pem), WireSpec(ca=place.authority.pem, proxy=proxy)
    assert _asked(worlds, _at(url, plain))["lifeboat"]["rung"] == "alpha"
    assert place.tunnels == []
    assert _asked(worlds, _at(url, through, proxy))["lifeboat"]["rung"] == "alpha"
    assert place.tunnels == [url.removeprefix("https://").removesuffix("/v1")]
    lifeboat = _asked(worlds, _at(url, through))["lifeboat"]
    assert lifeboat["reason"] == ["alpha: its proxy is not on the egress list of the signed policy"]
    assert len(place.tunnels) == 1
