"""Credentials that change while a box serves: a real provider with TLS that takes only its newest key."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance.edge.tls import Certificate, loaded, make_ca, make_leaf

pytestmark = pytest.mark.timeout(300)

PROFILE = """
[bundle]
name = "rotation"
title = "A box whose keys change"

[[upstream]]
name = "cloud"
base_url = "https://127.0.0.1:{port}/v1"
model = "m"
key = "CLOUD"
ca = "OUR-CA"

[ladder]
message = "Nothing here can answer."
handoff = "Please phone."
"""
WORDS = 40
PAUSE_S = 0.1


class Provider(ThreadingHTTPServer):
    """Streams forty words to whoever has its key; key and certificate may change at any time."""

    daemon_threads = True

    def __init__(self, key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key, self.refused = key, 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.socket = self.context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def show(self, certificate: Certificate) -> None:
        """New connections get this certificate."""
        with loaded(certificate) as path:
            self.context.load_cert_chain(path)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: who trusts another authority hangs up."""


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.headers["Authorization"] == f"Bearer {self.server.key}"
        self.server.refused += not known
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "text/event-stream" if body.get("stream") else "application/json")
        self.end_headers()
        if not known:
            self.wfile.write(b'{"error": {"message": "no such key", "code": "invalid_api_key"}}')
        elif body.get("stream"):
            self._stream()
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
            self.wfile.write(json.dumps(_head() | {"choices": [choice]}).encode())

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": []}')

    def _stream(self) -> None:
        for number in range(WORDS + 1):
            last = number == WORDS
            delta = {} if last else {"content": f"{number} "}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if last else None}
            self.wfile.write(b"data: " + json.dumps(_head() | {"choices": [choice]}).encode() + b"\n\n")
            time.sleep(0 if last else PAUSE_S)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def _head() -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}


@contextmanager
def standing(provider: Provider) -> Iterator[None]:
    thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    with provider:
        thread.start()
        yield
        provider.shutdown()
        thread.join()


class Client:
    """Asks a box, and sets its secrets as a person would."""

    def __init__(self, box: Any, folder: Path) -> None:
        self._box, self._folder = box, folder
        self._headers = {"Authorization": f"Bearer {box.token}"}
        self.statuses: list[int] = []

    def body(self, *, stream: bool = False) -> dict[str, Any]:
        return {"model": "auto", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}

    def served_by(self) -> str:
        """Returns who answered; what is no 200 is on record."""
        url = f"{self._box.url}/v1/chat/completions"
        reply = httpx2.post(url, json=self.body(), headers=self._headers, timeout=60)
        self.statuses.append(reply.status_code)
        return str(reply.headers.get("X-Lifeboat-Served-By"))

    def until_served_by(self, name: str) -> None:
        end = time.monotonic() + 60
        while self.served_by() != name:
            assert time.monotonic() < end, f"{name} does not serve"
            time.sleep(0.1)

    @contextmanager
    def streaming(self) -> Iterator[list[str]]:
        """Begins a stream; after the block the list holds all of its events."""
        events: list[str] = []
        begun = threading.Event()

        def read() -> None:
            url, body = f"{self._box.url}/v1/chat/completions", self.body(stream=True)
            with httpx2.stream("POST", url, json=body, headers=self._headers, timeout=60) as reply:
                for line in reply.iter_lines():
                    if line.startswith("data: "):
                        events.append(line.removeprefix("data: "))
                        begun.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(60)
        yield events
        thread.join(60)

    def set_secret(self, name: str, value: bytes) -> None:
        path = self._folder / "value"
        path.write_bytes(value)
        words = ("secret", "set", name, "--file", path, "--state", self._folder / "state")
        done = subprocess.run([sys.executable, "-m", "appliance", *map(str, words)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def words_of(events: list[str]) -> str:
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", []))


def test_a_key_and_an_authority_change_while_the_box_serves(
    load_script: Callable[[str], Any], wheelhouse: Path, tmp_path: Path
) -> None:
    """The same process takes the new ones; a stream that has begun under the old key comes to its end; nobody fails.

    The old key is dead to the box (its breaker is open); the new one is asked at once, without waiting for that.
    """
    boxes, folder, now = load_script("failover_box"), tmp_path / "box", datetime.now(UTC)
    first, second = make_ca("one", now), make_ca("two", now)
    provider = Provider("sk-old")
    provider.show(make_leaf(first, ["127.0.0.1"], now))
    token = boxes.installed(folder, PROFILE.format(port=provider.server_address[1]), wheels=wheelhouse)
    with standing(provider), boxes.served(folder, token) as box:
        client, serving = Client(box, folder), _children(box.process.pid)
        assert client.served_by() == "message"  # neither key nor authority is set
        client.set_secret("CLOUD", b"sk-old\n")
        client.set_secret("OUR-CA", first.cert_pem)
        client.until_served_by("cloud")
        with client.streaming() as events:
            provider.key = "sk-new"
            client.until_served_by("message")
            client.set_secret("CLOUD", b"sk-new\n")
            client.until_served_by("cloud")
            assert len(events) < WORDS  # it still comes
        assert words_of(events) == "".join(f"{number} " for number in range(WORDS))
        assert provider.refused <= 2
        provider.show(make_leaf(second, ["127.0.0.1"], now))
        client.until_served_by("message")
        client.set_secret("OUR-CA", second.cert_pem)
        client.until_served_by("cloud")
        assert _children(box.process.pid) == serving
    assert set(client.statuses) == {200}
    told = (folder / "serve.log").read_text()
    kept = b"".join(path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file())
    for words in ("sk-old", "sk-new", "no such key"):  # our keys, and what the provider said of them
        assert words not in told
        assert words.encode() not in kept


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()
