"""The answer cache of a real box: it outlives kill -9, holds no plaintext, and answers its own tenant alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

pytestmark = pytest.mark.timeout(300)

PROFILE = """
[bundle]
name = "kept"
title = "A box that keeps answers"

[[upstream]]
name = "cloud"
base_url = "http://127.0.0.1:{port}/v1"
model = "cloud-large"

[ladder]
chat = ["cloud", "cache", "message"]
message = "Nothing here can answer."
[ladder.cache]
keep = "1h"
"""
SECRET, WORDS = "Who is Mr. Okonkwo?", ("He ", "repairs ", "typewriters.")
ANSWER = "".join(WORDS)


class _Cloud(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "cloud-large"}
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        cut = "cut" in body["messages"][-1]["content"]
        for number, word in enumerate(WORDS):
            end = "stop" if number == len(WORDS) - 1 else None
            if cut and end:
                return
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": end}
            self.wfile.write(b"data: %s\n\n" % json.dumps(head | {"choices": [choice]}).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def _cloud() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Cloud) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        try:
            yield serving.server_address[1]
        finally:
            serving.shutdown()
            thread.join()


def _ask(box: Any, text: str, token: str = "") -> tuple[str, Any]:
    """Streams through the OpenAI client; returns the text and the response's headers."""
    with OpenAI(base_url=f"{box.url}/v1", api_key=token or box.token, max_retries=0, timeout=60) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": text}], stream=True
        )
        words = [choice.delta.content or "" for chunk in raw.parse() for choice in chunk.choices]
    return "".join(words), raw.headers


def _program(folder: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "appliance", *words, "--state", str(folder / "state"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return json.loads(done.stdout)


def test_a_kept_answer_outlives_kill_9(
    load_script: Callable[[str], Any], wheelhouse: Path, tmp_path: Path, kill_all: Callable[[int], None]
) -> None:
    """The box died and the provider is away: its tenant gets the answer with its age, and nobody what was cut."""
    boxes, folder = load_script("failover_box"), tmp_path / "box"
    with _cloud() as port:
        token = boxes.installed(folder, PROFILE.format(port=port), wheels=wheelhouse)
        with boxes.served(folder, token) as box:
            with pytest.raises(Exception, match="broke off"):
                _ask(box, f"{SECRET} (cut)")
            assert _ask(box, SECRET)[0] == ANSWER
            end_s = time.monotonic() + 30
            while not box.ready()["cache"]["kept"]:
                assert time.monotonic() < end_s
                time.sleep(0.05)
            kill_all(box.process.pid)
    files = [path for path in (folder / "state").rglob("*") if path.is_file() and not path.is_symlink()]
    assert (folder / "state" / "cache.db") in files
    held = [path for path in files for text in (b"Okonkwo", b"typewriters") if text in path.read_bytes()]
    assert held == []
    other = _program(folder, "token", "create", "other")["token"]
    with boxes.served(folder, token) as box:
        text, headers = _ask(box, SECRET)
        assert (text, headers["X-Lifeboat-Rung"], headers["X-Lifeboat-Mode"]) == (ANSWER, "cache", "LOCAL")
        assert 0 <= int(headers["X-Lifeboat-Data-Age"]) < 300
        for asked, of in ((SECRET, other), (f"{SECRET} (cut)", token), (f"{SECRET} ", token)):
            text, headers = _ask(box, asked, of)
            assert (text, headers["X-Lifeboat-Rung"]) == ("Nothing here can answer.", "message")
    found = [each for each in _program(folder, "doctor")["findings"] if each["subject"] == "answer cache"]
    assert [each["state"] for each in found] == ["good"]
