"""A hub behind a certificate that nobody here trusts: no second try mends that, and the way out is told."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import SourceFailed
from bundler.sources.place import Place
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]
SOURCE = "hub:org/name/model.gguf"


class _Nothing(BaseHTTPRequestHandler):
    """Answers 404, as a hub does of what it does not have."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def certificate(make_certificate: Callable[[Path, str], Path], tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "IP:127.0.0.1")


@pytest.fixture
def secure(certificate: Path) -> Iterator[str]:
    """The address of a server that shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_certificate_that_is_not_trusted(
    pull: Pull, place: Place, secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused at the first try; with its authority in SSL_CERT_FILE the hub is asked."""
    told = list[str]()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", secure)
    with pytest.raises(SourceFailed, match=r"127\.0\.0\.1 shows a certificate that is not trusted: self") as refused:
        pull(SOURCE, replace(place, say=told.append))
    assert "SSL_CERT_FILE" in refused.value.hint
    assert [line for line in told if "again in" in line] == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(SourceFailed, match="the hub knows no such repository"):
        pull(SOURCE)


def test_a_hub_without_tls(local_hub: Any, pull: Pull, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https address whose server speaks http is told as that."""
    told = list[str]()
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint.replace("http://", "https://"))
    with pytest.raises(SourceFailed, match=r"127\.0\.0\.1 does not speak TLS") as refused:
        pull(SOURCE, replace(place, say=told.append))
    assert "http://" in refused.value.hint
    assert [line for line in told if "again in" in line] == []
