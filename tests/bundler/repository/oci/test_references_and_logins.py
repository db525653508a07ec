"""Where an artifact lies, and with whose credentials: read strictly, found as podman finds them, shown to nobody."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.repository.oci.logins import Login, find
from bundler.repository.oci.patience import Passing, Patience
from bundler.repository.oci.pull import pull
from bundler.repository.oci.reference import is_loopback, parse, parse_name
from bundler.repository.oci.wire import Wire
from bundler.terminal import Terminal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("oci:registry.example/office", ("registry.example", "office", "latest", "")),
        ("oci:registry.example:5000/a/b_c/d-e.f:v1", ("registry.example:5000", "a/b_c/d-e.f", "v1", "")),
        (f"oci:[::1]:5000/a@sha256:{'ab' * 32}", ("[::1]:5000", "a", "", f"sha256:{'ab' * 32}")),
        (f"oci:h/a:t@sha256:{'ab' * 32}", ("h", "a", "t", f"sha256:{'ab' * 32}")),
    ],
)
def test_a_reference_is_read(text: str, parts: tuple[str, ...]) -> None:
    """Host, name, tag and digest; without either the tag is `latest`."""
    found = parse(text)
    assert (found.host, found.name, found.tag, found.digest) == parts
    assert str(found).startswith(text)


@pytest.mark.parametrize(
    "text",
    [
        "oci:", "oci:office", "oci:/office", "oci:host/", "oci:host/UPPER", "oci:host/a:", "oci:host/a@sha256:ab",
        "oci:host/../a", "oci:user:word@host/a", "oci:host/a?x", "oci:host/a#x", "oci:https://host/a", "oci:host /a",
        "oci:host/a\n", "oci:host/" + "a" * 256, "oci:ho\x1bst/a", "oci:host/a:-x",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    """With the form that is due, and nothing of it as a control character."""
    with pytest.raises(BadInput, match="is not a reference") as refused:
        parse(text)
    assert refused.value.fact.isprintable()
    with pytest.raises(BadInput):
        parse_name(text)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.8.0.1", True),
        ("[::1]:5000", True),
        ("[::1]", True), ("registry.example", False), ("localhost.example:80", False), ("127.0.0.1.example", False),
        ("10.0.0.1:5000", False), ("[fe80::1]:5000", False), ("0.0.0.0:5000", False),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_alone(host: str, plain: bool) -> None:
    """By its name and addresses, and by no name that only looks like one."""
    assert is_loopback(host) is plain
    assert parse(f"oci:{host}/a").origin == f"{'http' if plain else 'https'}://{host}"


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _written(path: Path, auths: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": auths, "credHelpers": {"registry.example": "touch /tmp/never"}}))


def test_the_closest_entry_of_the_first_file_counts(tmp_path: Path) -> None:
    """As in containers-auth.json(5); a file that is named is the only one."""
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    _written(tmp_path / ".docker/config.json", {"https://registry.example/v1/": _auth("docker", "d")})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("docker", "d")
    _written(tmp_path / ".config/containers/auth.json", {"registry.example": _auth("config", "c")})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("config", "c")
    auths = {"registry.example": _auth("host", "h"), "registry.example/a": _auth("namespace", "n:with:colons")}
    _written(tmp_path / "run/containers/auth.json", auths)
    assert find("registry.example", "a/b", environment, tmp_path) == Login("namespace", "n:with:colons")
    assert find("registry.example", "other", environment, tmp_path) == Login("host", "h")
    assert find("registry.example.evil", "a/b", environment, tmp_path) is None
    environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "named")
    assert find("registry.example", "a/b", environment, tmp_path) is None
    _written(tmp_path / "named", {"registry.example": {"identitytoken": "t"}})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("", "", "t")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"h": {"auth": "%%%"}}}', '{"auths": {"h": {"auth": "/w=="}}}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    """By its path, and without a word of what it holds."""
    (tmp_path / "auth").write_text(text)
    with pytest.raises(BadInput, match="credentials") as refused:
        find("h", "n", {"REGISTRY_AUTH_FILE": str(tmp_path / "auth")}, tmp_path)
    assert "%%%" not in refused.value.fact


def test_a_login_is_shown_nowhere() -> None:
    """Not even where an object is printed."""
    assert "secret" not in repr(Login("lena", "secret", "secret"))


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
def secure(make_registry: Callable[..., Any], tmp_path: Path) -> Iterator[Any]:
    """A registry that shows a certificate of an authority of its own, for the name registry.test."""
    pair = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    ask = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=t", *pair]
    subprocess.run([*ask, "-addext", "subjectAltName=DNS:registry.test"], check=True, capture_output=True)
    with make_registry(certificate=tmp_path / "cert", key=tmp_path / "key") as running:
        yield running


def test_a_certificate(stock: Any, secure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is checked: an authority that is not known is refused at once, one of SSL_CERT_FILE is taken."""
    monkeypatch.setattr("socket.getaddrinfo", _resolving(secure.port))
    wire = Wire("https://registry.test", None, ())
    with closing(wire), pytest.raises(SourceFailed, match="certificate that is not trusted") as refused:
        Patience(sleep=stock.pauses.append).keep(lambda: _status(wire))
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

    with pytest.raises(SourceFailed, match="failed 8 times: it answers 503"):
        Patience(8, sleep=slept.append, told=told.append).keep(fail)
    assert slept == [1, 2, 4, 8, 16, 30, 30]
    assert told[0] == "the registry failed: it answers 503; again in 1 s"


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
