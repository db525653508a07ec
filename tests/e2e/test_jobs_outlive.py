"""Jobs of a real box that is killed: each that was acknowledged is answered after it starts again, and kept sealed."""

from __future__ import annotations

import json
import socket
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
name = "jobs"
title = "A box that takes jobs"

[[upstream]]
name = "cloud"
base_url = "http://127.0.0.1:{port}/v1"
model = "cloud-large"
first_token_timeout_ms = 60000

[ladder]
message = "Nothing here can answer."
jobs = "1h"
"""
SECRET = "the printer of Mr. Okonkwo is on fire"
COUNT = 30


class _Cloud(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        self.server.asked.append(text)  # type: ignore[attr-defined]
        if not self.server.answers:  # type: ignore[attr-defined]
            time.sleep(60)
        choice = {"index": 0, "message": {"role": "assistant", "content": f"yes: {text}"}, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "created": 1, "model": "cloud-large", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def _cloud(port: int, *, answers: bool) -> Iterator[list[str]]:
    """A provider that answers, or is silent."""
    with _Server(("127.0.0.1", port), _Cloud) as serving:
        asked: list[str] = []
        serving.asked, serving.answers = asked, answers  # type: ignore[attr-defined]
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        try:
            yield asked
        finally:
            serving.shutdown()
            thread.join()


def _taken(box: Any, number: int) -> str:
    body = {"model": "auto", "messages": [{"role": "user", "content": f"{SECRET} {number}"}]}
    headers = {"Authorization": f"Bearer {box.token}", "Prefer": "respond-async", "Idempotency-Key": str(number)}
    reply = httpx2.post(f"{box.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert reply.status_code == 202, reply.text
    return str(reply.headers["Location"])


def _job(box: Any, where: str) -> dict[str, Any]:
    reply = httpx2.get(f"{box.url}{where}", headers={"Authorization": f"Bearer {box.token}"}, timeout=60)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def _until(true: Callable[[], Any]) -> None:
    end_s = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_kill_9_loses_no_job(
    load_script: Callable[[str], Any], wheelhouse: Path, tmp_path: Path, kill_all: Callable[[int], None]
) -> None:
    """Those that waited are asked once, those that ran once more, and each is answered under its own name."""
    boxes, folder = load_script("failover_box"), tmp_path / "box"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = boxes.installed(folder, PROFILE.format(port=port), wheels=wheelhouse)
    with _cloud(port, answers=False) as asked, boxes.served(folder, token) as box:
        names = [_taken(box, number) for number in range(COUNT)]
        _until(lambda: len(asked) == 2)
        kill_all(box.process.pid)
        ran = set(asked)
    assert len(set(names)) == COUNT
    files = [path for path in (folder / "state").rglob("*") if path.is_file() and not path.is_symlink()]
    assert (folder / "state" / "jobs.db") in files
    assert [path for path in files if b"Okonkwo" in path.read_bytes()] == []
    with _cloud(port, answers=True) as asked, boxes.served(folder, token) as box:
        assert _taken(box, 7) == names[7]
        _until(lambda: all(_job(box, name)["status"] == "completed" for name in names))
        jobs = [_job(box, name) for name in names]
        again = {f"{SECRET} {number}" for number, job in enumerate(jobs) if job["tries"] == 2}
    texts = [job["response"]["choices"][0]["message"]["content"] for job in jobs]
    assert texts == [f"yes: {SECRET} {number}" for number in range(COUNT)]
    assert sorted(asked) == sorted(f"{SECRET} {number}" for number in range(COUNT))
    assert again == ran
