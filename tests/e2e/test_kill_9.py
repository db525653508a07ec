"""Hand-off tickets of a real box that is killed: none is lost, and each goes out when somebody takes them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.timeout(300)

PROFILE = """
[bundle]
name = "tickets"
title = "A box that hands over"

[[upstream]]
name = "cloud"
base_url = "http://127.0.0.1:9/v1"
model = "m"

[ladder]
message = "Nothing here can answer."
handoff = "Please phone."

[handoff]
webhook = "http://127.0.0.1:{port}/tickets"
"""
SECRET = "the printer of Mr. Okonkwo is on fire"


class _Desk(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append((self.headers["Idempotency-Key"], body))  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def _desk(port: int) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    with ThreadingHTTPServer(("127.0.0.1", port), _Desk) as serving:
        taken: list[tuple[str, dict[str, Any]]] = []
        serving.taken = taken  # type: ignore[attr-defined]
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            serving.shutdown()
            thread.join()


def _ask(box: Any, text: str) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {box.token}"}
    reply = httpx2.post(f"{box.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    return str(reply.headers["X-Lifeboat-Ticket"])


def _status(folder: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "appliance", "status", "--state", str(folder / "state"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_kill_9_loses_no_ticket(
    load_script: Callable[[str], Any], wheelhouse: Path, tmp_path: Path, kill_all: Callable[[int], None]
) -> None:
    """Every ticket that a caller was told of is on the disk, sealed, counted by `status`, and sent after a restart."""
    boxes, folder = load_script("failover_box"), tmp_path / "box"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = boxes.installed(folder, PROFILE.format(port=port), wheels=wheelhouse)
    with boxes.served(folder, token) as box:
        names = [_ask(box, f"{SECRET} {number}") for number in range(20)]
        kill_all(box.process.pid)
    assert len(set(names)) == 20
    status = _status(folder)
    assert status["handoff_waiting"] == 20
    assert "20 tickets wait" in status["handoff"]
    files = [path for path in (folder / "state").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if b"Okonkwo" in path.read_bytes()]
    with _desk(port) as taken, boxes.served(folder, token):
        end = time.monotonic() + 120
        while len({name for name, _ in taken}) < 20 or _status(folder)["handoff_waiting"]:
            assert time.monotonic() < end, f"{len(taken)} of 20 came"
            time.sleep(0.2)
    assert {name for name, _ in taken} == set(names)
    assert {body["question"] for _, body in taken} == {f"{SECRET} {number}" for number in range(20)}
    assert taken[0][1]["site"] == boxes.SITE
