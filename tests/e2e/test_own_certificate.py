"""`serve --tls-cert --tls-key`: clients that trust the operator's own authority, a renewal, and what is refused."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from appliance.edge.tls import Certificate, make_ca, make_leaf

pytestmark = pytest.mark.timeout(300)

PROFILE = """
[bundle]
name = "tls"
title = "A box with a certificate of its own"

[[upstream]]
name = "cloud"
base_url = "http://127.0.0.1:9/v1"
model = "m"

[ladder]
message = "Nothing here can answer."
handoff = "Please phone."
"""
NAME = "box.example"


@dataclass
class Place:
    """A state that is served with files of the operator's."""

    folder: Path
    token: str
    authority: Certificate

    @property
    def chain(self) -> Path:
        return self.folder / "chain.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    def leaf(self, *names: str, at: datetime | None = None) -> Certificate:
        return make_leaf(self.authority, names or (NAME,), at or datetime.now(UTC))

    def write(self, certificate: Certificate) -> None:
        """Replaces the files one after the other, as whoever renews does."""
        for path, data in ((self.chain, certificate.cert_pem), (self.key, certificate.key_pem)):
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.chmod(0o600)
            part.replace(path)

    def command(self, word: str, *more: str | Path) -> list[str]:
        words = (word, "--state", self.folder / "state", *more)
        return [sys.executable, "-m", "appliance", *map(str, words)]

    def run(self, word: str, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(word, *more), capture_output=True, text=True, timeout=120, check=False)

    def serve_words(self, *more: str | Path) -> tuple[str | Path, ...]:
        return ("--port", "0", "--tls-cert", self.chain, "--tls-key", self.key, *more)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serves with what the files hold; yields the URL."""
        url, log = self.folder / "url", self.folder / "serve.log"
        words = self.command("serve", *self.serve_words("--port-file", url))
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output)
        try:
            end = time.monotonic() + 60
            while not url.exists() or not url.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield url.read_text().strip()
        finally:
            process.terminate()
            process.wait(60)

    def line(self, url: str) -> ssl.SSLSocket:
        """A connection of a client that trusts this authority and asks for this name."""
        context = ssl.create_default_context(cadata=self.authority.cert_pem.decode())
        parts = urlsplit(url)
        return context.wrap_socket(socket.create_connection((parts.hostname, parts.port), 60), server_hostname=NAME)

    def ask(self, line: ssl.SSLSocket) -> bytes:
        head = f"GET /v1/models HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        line.sendall(head.encode())
        said = b""
        while not said.endswith(b"}]}"):
            said += line.recv(2**16)
        return said.split(b"\r\n")[0]


@pytest.fixture(scope="module")
def place(load_script: Callable[[str], Any], wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("tls") / "box"
    token = load_script("failover_box").installed(folder, PROFILE, wheels=wheelhouse)
    return Place(folder, token, make_ca("theirs", datetime.now(UTC)))


def test_clients_trust_it_through_a_renewal(place: Place) -> None:
    """Its name is a name of the box; new connections are shown the new one, and those that stand go on with theirs.

    `doctor` and `check` tell how long the shown one is good.
    """
    first, second = place.leaf(), place.leaf(at=datetime.now(UTC) - timedelta(days=390))
    place.write(first)
    with place.served() as url:
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cadata=place.authority.cert_pem.decode())
        with place.line(url) as old:
            assert place.ask(old) == b"HTTP/1.1 200 OK"
            with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                httpx2.get(url, verify=trusting)  # it is not for the address
            assert httpx2.get(f"{url}/ca.crt", verify=False).status_code == 404
            assert "certificate: good for 395 days more" in place.run("doctor").stdout
            place.write(second)
            end = time.monotonic() + 60
            while True:
                with place.line(url) as new:
                    if new.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(second.cert_pem.decode()):
                        assert place.ask(new) == b"HTTP/1.1 200 OK"
                        break
                assert time.monotonic() < end, "it is not renewed"
                time.sleep(0.5)
            assert place.ask(old) == b"HTTP/1.1 200 OK"
        found = json.loads(place.run("doctor", "--json").stdout)["findings"]
        told = {(each["subject"], each["state"]): each["fact"] for each in found}
        assert told["certificate", "warn"] == "good for 5 days more"
        assert "its certificate ends in 5 days" in place.run("check").stdout
    assert "PRIVATE" not in (place.folder / "serve.log").read_text()


@pytest.mark.parametrize(
    ("broken", "more", "words"),
    [
        ("key", (), "the key is not that of the first certificate"),
        ("expired", (), "the certificate ended on"),
        ("nothing", ("--name", "other.example"), "the certificate is not for other.example"),
        ("mode", (), "is open to others (mode 0644)"),
        ("gone", (), "key.pem cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_served_ends_with_3(place: Place, broken: str, more: tuple[str, ...], words: str) -> None:
    """At once, with the reason and a way out; nothing listens."""
    good = place.leaf()
    old = place.leaf(at=datetime.now(UTC) - timedelta(days=400))
    wrong = {"key": Certificate(good.cert_pem, place.leaf().key_pem), "expired": old}
    place.write(wrong.get(broken, good))
    if broken == "mode":
        place.key.chmod(0o644)
    if broken == "gone":
        place.key.unlink()
    done = place.run("serve", *place.serve_words(*more))
    assert done.returncode == 3
    assert words in done.stderr
    assert "hint: " in done.stderr


def test_the_two_go_together(place: Place) -> None:
    """One of them alone is a mistake, for the service and for its unit."""
    place.write(place.leaf())
    for words in (("serve", "--tls-key", place.key), ("unit", "--program", "/opt/x", "--tls-cert", place.chain)):
        done = place.run(str(words[0]), *words[1:])
        assert (done.returncode, "go together" in done.stderr) == (3, True)
