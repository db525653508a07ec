"""The registry on loopback and its front: they serve real clients, count, and break what is asked of them."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import Request, urlopen

import pytest


def _ask(host: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    asked = http.client.HTTPConnection(host, timeout=20)
    try:
        asked.request(method, path, body or None, {"Content-Length": str(len(body)), **headers})
        answer = asked.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        asked.close()


def _push(host: str, name: str, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _, headers, _ = _ask(host, "POST", f"/v2/{name}/blobs/uploads/")
    place = headers["Location"].split(host, 1)[-1]
    status, _, _ = _ask(host, "PUT", f"{place}&digest={digest}", data)
    assert status == 201
    return digest


def test_a_blob_survives_a_restart_and_lies_where_it_says(registry: Any) -> None:
    """What was pushed is in the store's file and is served again after a stop and a start."""
    digest = _push(registry.host, "some/thing", b"kept")
    assert registry.blob(digest).read_bytes() == b"kept"
    registry.restart()
    assert _ask(registry.host, "GET", f"/v2/some/thing/blobs/{digest}")[2] == b"kept"


def test_the_front_counts_bytes_and_requests(registry: Any) -> None:
    """Both ways, with the status and by path."""
    front = registry.front()
    digest = _push(front.host, "counted", b"x" * 200_000)
    assert front.up_bytes() == 200_000
    assert len(_ask(front.host, "GET", f"/v2/counted/blobs/{digest}")[2]) == 200_000
    assert [(seen.status, seen.down_bytes) for seen in front.asked("GET", digest)] == [(200, 200_000)]


def test_the_front_breaks_what_is_asked_of_it(registry: Any, load_script: Callable[[str], Any]) -> None:
    """An answer of its own, and connections that end in the middle of a body, in either direction."""
    parts, front = load_script("registry_front"), registry.front()
    digest = _push(front.host, "broken", b"y" * 300_000)
    front.reset()
    front.fault = lambda seen: parts.Answer(429, {"Retry-After": "1"}, b"slow down")
    assert _ask(front.host, "GET", "/v2/")[0] == 429
    front.fault = lambda seen: parts.Cut(down_bytes=100_000)
    with pytest.raises(http.client.IncompleteRead) as short:
        _ask(front.host, "GET", f"/v2/broken/blobs/{digest}")
    assert len(short.value.partial) == 100_000
    front.fault = lambda seen: parts.Cut(up_bytes=100_000) if seen.method == "PUT" else None
    with pytest.raises((OSError, http.client.HTTPException)):
        _push(front.host, "broken", b"z" * 300_000)
    assert front.asked("PUT")[-1].up_bytes == 100_000


def test_a_password_and_a_certificate(
    make_registry: Callable[..., Any], make_certificate: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """With users it asks who is there; with a certificate it speaks TLS."""
    with make_registry(users={"lena": "secret"}) as guarded:
        assert _ask(guarded.host, "GET", "/v2/")[0] == 401
        assert _ask(guarded.host, "GET", "/v2/", Authorization="Basic bGVuYTpzZWNyZXQ=")[0] == 200
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    with make_registry(certificate=certificate, key=certificate.with_name("key")) as secure:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with urlopen(Request(f"https://{secure.host}/v2/"), context=trusted, timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.skipif(which("skopeo") is None, reason="skopeo is not installed")
def test_a_real_client_pushes_through_the_front(registry: Any, tmp_path: Path) -> None:
    """Skopeo sends its blobs in HTTP chunks; the front hands those on too."""
    front, layout = registry.front(), tmp_path / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        text = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / text).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{text}", "size": len(data)}

    of_image = "application/vnd.oci.image."
    config = blob(
        b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}', of_image + "config.v1+json"
    )
    manifest = {"schemaVersion": 2, "mediaType": of_image + "manifest.v1+json", "config": config, "layers": []}
    listed = blob(json.dumps(manifest).encode(), of_image + "manifest.v1+json")
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    words = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{front.host}/an/image:1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert front.up_bytes() == config["size"] + listed["size"]
