"""Where an artifact lies, and with whose credentials: read strictly, found as podman finds them, shown to nobody."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bundler.format.errors import SourceFailed
from bundler.patience import Passing, Patience
from bundler.registries.logins import Login
from bundler.registries.wire import Wire
from bundler.repository.oci.pull import pull
from bundler.terminal import Terminal


def test_a_password(stock: Any, make_registry: Callable[..., Any], tmp_path: Path) -> None:
    """Asked for by the registry and given once; a wrong one and none are told with the way out."""
    stock.build(b"1")
    with make_registry(users={"lena": "s3cret"}) as guarded:
        front = guarded.front()
        place = f"{front.host}/guarded:main"
        for login in (None, Login("lena", "wrong")):
            with pytest.raises(SourceFailed, match="401 UNAUTHORIZED") as refused:
                stock.push(place, login=login)
            assert "skopeo login" in refused.value.hint
            assert "wrong" not in f"{refused.value.fact} {refused.value.hint}"
        stock.push(place, login=Login("lena", "s3cret"))
        assert len([seen for seen in front.seen if seen.status == 401]) < 12


class _Elsewhere(BaseHTTPRequestHandler):
    """A token service, and a store that blobs are redirected to; it notes the headers that it gets."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        status, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as serving:
        made: Any = serving
        made.asked = []
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield made
        serving.shutdown()
        thread.join()


def test_a_token_is_fetched_where_the_registry_says(
    stock: Any, front: Any, parts: Any, elsewhere: Any, tmp_path: Path
) -> None:
    """By name and password, for this name alone; the registry gets the token and never the password."""
    stock.build(b"1")
    elsewhere.answer = lambda path: (200, json.dumps({"token": "the-token"}).encode())
    realm = f"http://127.0.0.1:{elsewhere.server_address[1]}/token?kept=1"
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="the, service",scope="x"'}

    def guard(seen: Any) -> Any:
        known = seen.headers.get("authorization") == "Bearer the-token"
        seen.headers.pop("authorization", None)
        return None if known else parts.Answer(401, challenge)

    front.fault = guard
    stock.push(f"{front.host}/tokens:main", login=Login("lena", "s3cret"))
    path, headers = elsewhere.asked[0]
    fields = parse_qs(urlsplit(path).query)
    assert fields == {"kept": ["1"], "service": ["the, service"], "scope": ["repository:tokens:pull,push"]}
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"lena:s3cret"
    assert len(elsewhere.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (401, b"", "gives no token: it answers 401"),
        (200, b"{", "no token that can be used"),
        (200, b'{"token": "a\\r\\nX-Injected: 1"}', "no token that can be used"),
        (200, b'{"token": 7}', "no token that can be used"),
        (200, b" " * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_token_service_that_gives_none(
    stock: Any, front: Any, parts: Any, elsewhere: Any, tmp_path: Path, status: int, body: bytes, why: str
) -> None:
    """Told, and nothing of its answer becomes a header."""
    elsewhere.answer = lambda path: (status, body)
    realm = f"http://127.0.0.1:{elsewhere.server_address[1]}/token"
    front.fault = lambda seen: parts.Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
    with pytest.raises(SourceFailed, match=why):
        stock.pull(f"{front.host}/tokens:none", tmp_path / "usb")


def test_a_redirect_carries_no_credential(
    stock: Any, front: Any, parts: Any, elsewhere: Any, registry: Any, tmp_path: Path
) -> None:
    """Blobs may lie in a store behind the registry, which learns nothing of who asks."""
    stock.build(b"1")
    place = f"{front.host}/redirected:main"
    stock.push(place)
    elsewhere.answer = lambda path: (200, registry.blob(path.rsplit("/", 1)[1]).read_bytes())
    store = f"http://127.0.0.1:{elsewhere.server_address[1]}"

    def point(seen: Any) -> Any:
        if seen.headers.pop("authorization", None) is None:
            return parts.Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        there = {"Location": f"{store}/{seen.path.rsplit('/', 1)[1]}"}
        return parts.Answer(307, there) if seen.method == "GET" and "/blobs/" in seen.path else None

    front.fault = point
    with closing(stock.client(place, Login("lena", "s3cret"))) as client:
        pull(client, tmp_path / "usb", Terminal(json_output=True), root=None, now=stock.publisher._now)
    assert elsewhere.asked
    assert not [headers for _, headers in elsewhere.asked if "Authorization" in headers]


@pytest.mark.parametrize(
    "location", ["http://registry.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x"]
)
def test_where_we_do_not_go(stock: Any, front: Any, parts: Any, location: str, tmp_path: Path) -> None:
    """Neither after a redirect nor for an upload: HTTPS, or this machine."""
    front.fault = lambda seen: parts.Answer(307, {"Location": location}) if seen.method == "GET" else None
    with pytest.raises(SourceFailed, match="which is not HTTPS"):
        stock.pull(f"{front.host}/away:main", tmp_path / "usb")
    stock.build(b"1")
    front.fault = lambda seen: parts.Answer(202, {"Location": location}) if seen.method == "POST" else None
    with pytest.raises(SourceFailed, match="which is not HTTPS"):
        stock.push(f"{front.host}/away:main")


def test_a_remote_registry_cannot_point_to_this_machine_without_tls() -> None:
    """Plain HTTP to loopback is for registries on loopback."""
    with closing(Wire("https://registry.example", None, ())) as wire, pytest.raises(SourceFailed, match="not HTTPS"):
        wire.resolve("https://registry.example/v2/", "http://127.0.0.1:8500/v1/agent")


def test_redirects_end(stock: Any, front: Any, parts: Any, tmp_path: Path) -> None:
    """A circle is left after five."""
    front.fault = lambda seen: parts.Answer(307, {"Location": seen.path})
    with pytest.raises(SourceFailed, match="redirects more than 5 times"):
        stock.pull(f"{front.host}/circle:main", tmp_path / "usb")
    assert len(front.seen) == 6


@pytest.fixture
def secure(
    make_registry: Callable[..., Any], make_certificate: Callable[[Path, str], Path], tmp_path: Path
) -> Iterator[Any]:
    """A registry that shows a certificate of an authority of its own, for the name registry.test."""
    certificate = make_certificate(tmp_path, "DNS:registry.test")
    with make_registry(certificate=certificate, key=certificate.with_name("key")) as running:
        yield running


def test_a_certificate(stock: Any, secure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is checked: an authority that is not known is refused at once, one of SSL_CERT_FILE is taken."""
    monkeypatch.setattr("socket.getaddrinfo", _resolving(secure.port))
    wire = Wire("https://registry.test", None, ())
    with closing(wire), pytest.raises(SourceFailed, match="certificate that is not trusted") as refused:
        Patience(sleep=stock.pauses.append).keep("it", lambda: _status(wire), "")
    assert "SSL_CERT_FILE" in refused.value.hint
    assert stock.pauses == []
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    assert ssl.get_default_verify_paths().cafile == str(secure.certificate)
    with closing(Wire("https://registry.test", None, ())) as trusting:
        assert _status(trusting) == 200


def test_what_no_second_try_mends(registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows, and a server that speaks no TLS, are told at once."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with closing(Wire("https://registry.test", None, ())) as wire:
        monkeypatch.setattr("socket.getaddrinfo", _resolving(registry.port))
        with pytest.raises(SourceFailed, match="does not speak TLS"):
            _status(wire)
        monkeypatch.setattr("socket.getaddrinfo", unknown)
        with pytest.raises(SourceFailed, match=r"registry\.test is not known here"):
            _status(wire)


def test_a_pause_is_told() -> None:
    """Who waits reads why, and for how long; the pauses double up to a bound."""
    told, slept = list[str](), list[float]()

    def fail() -> None:
        raise Passing("it answers 503")

    with pytest.raises(SourceFailed, match="the registry: it answers 503, after 8 tries") as ended:
        Patience(8, sleep=slept.append, told=told.append).keep("the registry", fail, "later")
    assert slept == [1, 2, 4, 8, 16, 30, 30]
    assert (told[0], len(told)) == ("the registry: it answers 503; again in 1 s, try 2 of 8", 7)
    assert ended.value.hint == "later"


def test_a_proxy_of_the_environment(
    secure: Any, joined: Callable[[socket.socket, socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for a tunnel to the registry, with its own password, and sees nothing of what passes."""
    heads = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client, socket.create_connection(("127.0.0.1", secure.port)) as there:
                heads.append(client.recv(65536))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                joined(client, there)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
        monkeypatch.setenv("https_proxy", f"http://lena:word@127.0.0.1:{listening.getsockname()[1]}")
        with closing(Wire("https://registry.test", Login("a", "registry password"), ())) as wire:
            assert _status(wire) == 200
        thread.join(10)
    assert heads[0].startswith(b"CONNECT registry.test:443 ")
    assert base64.b64encode(b"lena:word") in heads[0]


def _status(wire: Wire) -> int:
    with wire.send("GET", "/v2/") as answer:
        return answer.status


def _resolving(port: int) -> Callable[..., Any]:
    def resolve(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    return resolve
