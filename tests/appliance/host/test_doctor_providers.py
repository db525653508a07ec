"""`doctor --online` asks a provider as the gateway does: by its proxy, authority, key header and query."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from appliance.edge.tls import Certificate, loaded, make_ca, make_leaf
from appliance.host.doctor_network import upstream_findings
from appliance.host.finding import Finding
from bundler.format.service import ANTHROPIC, LadderSpec, PairSpec, RungSpec, Service, UpstreamSpec, WireSpec

NOW = datetime.now(UTC)
CA = make_ca("theirs", NOW)
PEM = CA.cert_pem.decode()


@dataclass
class Place:
    """A provider with TLS and a proxy, and what came to each."""

    stack: ExitStack
    joined: Callable[[socket.socket, socket.socket], None]
    asked: list[dict[str, str]] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)
    answer: tuple[int, bytes] = (200, b'{"data": []}')

    def provider(self, leaf: Certificate) -> str:
        """Starts one; returns its origin."""
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place.asked.append({"path": self.path, **{name.lower(): each for name, each in self.headers.items()}})
                status, body = place.answer
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with loaded(leaf) as path:
            context.load_cert_chain(path)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        for closing in (server.server_close, thread.join, server.shutdown):
            self.stack.callback(closing)
        return f"https://127.0.0.1:{server.server_address[1]}"

    def proxy(self, *, opens: bool = True) -> str:
        """Starts a proxy; one that opens no tunnel says so."""
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=self._proxied, args=(listener, opens), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def _proxied(self, listener: socket.socket, opens: bool) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # the test is over
            with client:
                target = client.recv(4096).decode().split()[1]
                self.tunnels.append(target)
                if not opens:
                    client.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                    continue
                with socket.create_connection((target.split(":")[0], int(target.split(":")[1]))) as server:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    self.joined(client, server)


@pytest.fixture
def place(joined: Callable[[socket.socket, socket.socket], None]) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, joined)


def found(
    origin: str,
    wire: WireSpec,
    *,
    egress: tuple[str, ...] = (),
    kind: str = "openai",
    secrets: dict[str, str] | None = None,
) -> Finding:
    upstream = UpstreamSpec("cloud", f"{origin}/v1", "m", "CLOUD", "here", 2_000, 2_000, 2_000, kind=kind, wire=wire)
    ladder = LadderSpec((RungSpec("cloud", "upstream", "cloud"),), ("cloud",), (), "", "", "")
    service = cast("Service", type("Part", (), {"upstreams": (upstream,), "ladder": ladder}))
    known = {"CLOUD": "sk-1", **(secrets or {})}
    (finding,) = upstream_findings(service, (origin, *egress), known, (), online=True)
    return finding


def leaf(*, days_ago: int = 0) -> Certificate:
    return make_leaf(CA, ["127.0.0.1"], NOW - timedelta(days=days_ago))


def test_it_is_asked_as_the_gateway_asks(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own authority, the header of its key, its query and headers; no proxy of the environment."""
    monkeypatch.setenv("HTTPS_PROXY", place.proxy())
    origin = place.provider(leaf())
    query, headers = (PairSpec("api-version", "1"),), (PairSpec("X-Team", "boats"),)
    told = found(origin, WireSpec(ca=PEM, auth="api-key", query=query, headers=headers))
    assert (told.state, told.fact) == ("good", "reached, it answers 200")
    told = found(origin, WireSpec(ca="OUR-CA"), kind=ANTHROPIC, secrets={"OUR-CA": PEM})
    assert told.state == "good"
    first, second = place.asked
    assert (first["path"], first["api-key"], first["x-team"]) == ("/v1/models?api-version=1", "sk-1", "boats")
    assert "authorization" not in first
    assert (second["x-api-key"], second["anthropic-version"]) == ("sk-1", "2023-06-01")
    assert place.tunnels == []


def test_it_is_asked_through_its_proxy(place: Place) -> None:
    """And told so; one that opens no tunnel, or is not there, is what the finding names."""
    origin, proxy, closed = place.provider(leaf()), place.proxy(), place.proxy(opens=False)
    told = found(origin, WireSpec(ca=PEM, proxy=proxy), egress=(proxy,))
    assert (told.state, told.fact) == ("good", f"reached through its proxy {proxy}, it answers 200")
    assert place.tunnels == [origin.removeprefix("https://")]
    for gone, words in (
        (closed, "its proxy opens no tunnel to it"),
        ("http://127.0.0.1:9", "no connection to its proxy"),
    ):
        told = found(origin, WireSpec(ca=PEM, proxy=gone), egress=(gone,))
        assert (told.state, told.fact) == ("warn", f"not reached through its proxy {gone}: {words}")
        assert "see its proxy" in told.hint
    assert len(place.asked) == 1


@pytest.mark.parametrize(
    ("ca", "days_ago", "hint"),
    [
        ("", 0, "an authority of its own goes into the profile's `ca`"),
        (make_ca("another", NOW).cert_pem.decode(), 0, "must be signed by its profile's `ca`"),
        (PEM, 400, "and be in time"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_told(place: Place, ca: str, days_ago: int, hint: str) -> None:
    """With where to look; the key goes to nobody."""
    told = found(place.provider(leaf(days_ago=days_ago)), WireSpec(ca=ca))
    assert (told.state, told.fact) == ("warn", "not reached: its certificate is not trusted")
    assert hint in told.hint
    assert place.asked == []


def test_what_keeps_the_gateway_from_asking_keeps_doctor_from_it(place: Place) -> None:
    """A proxy that the policy lacks, an authority that is not set or is none: each with its way out."""
    origin, proxy = place.provider(leaf()), place.proxy()
    told = found(origin, WireSpec(ca=PEM, proxy=proxy))
    assert (told.state, told.fact) == ("bad", "never asked: its proxy is not on the egress list of the signed policy")
    for secrets in ({}, {"OUR-CA": "no certificate"}):
        told = found(origin, WireSpec(ca="OUR-CA"), secrets=secrets)
        assert (told.state, told.hint) == ("warn", "lifeboat-appliance secret set OUR-CA --file ca.pem")
    assert (place.asked, place.tunnels) == ([], [])


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ((200, b"<html>Please log in</html>"), "warn", "which is no list of models"),
        ((302, b""), "warn", "it answers 302, which is no list of models"),
        ((404, b"{}"), "good", "it answers 404"),
        ((503, b"{}"), "warn", "it answers 503"),
        ((403, b"{}"), "warn", "it denies us access (403)"),
    ],
)
def test_what_answers_is_judged(place: Place, answer: tuple[int, bytes], state: str, words: str) -> None:
    """A captive portal is no provider, and a redirect is not followed."""
    place.answer = answer
    told = found(place.provider(leaf()), WireSpec(ca=PEM))
    assert (told.state, words in told.fact) == (state, True)
    assert [asked["path"] for asked in place.asked] == ["/v1/models"]


def test_a_name_that_does_not_exist_is_told() -> None:
    """Where to look is the name service."""
    told = found("https://no-such-provider.invalid", replace(WireSpec(), ca=PEM))
    assert (told.state, told.fact) == ("warn", "not reached: its name is not found")
