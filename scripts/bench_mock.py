"""The benchmark's upstream: nginx on loopback with OpenAI's wire, fast and always well; and wrk as the client.

Neither is Python: a Python mock or client is slower than what is to be measured.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from failover_systems import free_port, listens
from wall_wire import CHAT, TEXT, WORDS, Wire

# What it answers is chosen by the path: it does not read the body. A text of its configuration has 4,096 bytes at most.
CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; default_type application/json;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    {parts}
    location = /primary/v1/chat/completions {{ return 200 "{plain}"; }}
    location = /second/v1/chat/completions {{ default_type text/event-stream; return 200 "{stream}"; }}
    location / {{ return 200 '{{"object": "list", "data": []}}'; }}
  }}
}}
"""
PART_BYTES = 2000
LUA = """
wrk.method = "POST"
wrk.body = {body}
{headers}
done = function(summary, latency, requests)
  io.write(string.format("p50 %.1f p99 %.1f mean %.1f requests %d duration %d errors %d\\n",
    latency:percentile(50), latency:percentile(99), latency.mean, summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk found: milliseconds, requests a second, and how many answers were none."""

    p50_ms: float
    p99_ms: float
    per_s: float
    errors: int


@contextmanager
def upstream(folder: Path) -> Iterator[str]:
    """Serves the mock; yields its address."""
    folder.mkdir(parents=True, exist_ok=True)
    wire = Wire(CHAT, "bench", usage=False)
    events = b"".join(wire.event(data) for data in (*wire.words(WORDS), wire.done()))
    port, parts = free_port(), list[str]()
    bodies = {"plain": wire.body(TEXT).decode(), "stream": events.decode()}
    names = {name: _parts(name, text, parts) for name, text in bodies.items()}
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, parts=" ".join(parts), **names))
    process = subprocess.Popen(["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    try:
        end = time.monotonic() + 10
        while not listens(port):
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"error: nginx did not start: see {folder / 'error.log'}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _parts(name: str, text: str, parts: list[str]) -> str:
    """Adds a text to the configuration in parts; returns the variables that hold them."""
    cuts = [text[at : at + PART_BYTES] for at in range(0, len(text), PART_BYTES)]
    parts.extend(f"set ${name}{number} '{cut}';" for number, cut in enumerate(cuts))
    return "".join(f"${{{name}{number}}}" for number in range(len(cuts)))


def load(url: str, headers: Mapping[str, str], body: Mapping[str, object], at_once: int, seconds: int) -> Load:
    """Asks without a pause for some seconds, over `at_once` connections of one thread."""
    fields = {"Content-Type": "application/json", **headers}
    lines = "\n".join(f"wrk.headers[ {_lua(name)} ] = {_lua(value)}" for name, value in fields.items())
    script = LUA.format(body=_lua(json.dumps(body)), headers=lines)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:  # not a pipe: each thread of wrk reads it
        file.write(script)
        file.flush()
        words = ["wrk", "-t1", f"-c{at_once}", f"-d{seconds}s", "--timeout", "30s", "-s", file.name, url]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = re.search(r"p50 (\S+) p99 (\S+) mean \S+ requests (\d+) duration (\d+) errors (\d+)", done.stdout)
    if found is None:
        raise SystemExit(f"error: wrk said {done.stdout} {done.stderr}")
    p50, p99, requests, duration, errors = map(float, found.groups())
    return Load(p50 / 1000, p99 / 1000, requests / (duration / 1e6), int(errors))


def _lua(text: str) -> str:
    """Returns a text as a literal of Lua, whose long brackets take every character."""
    return f"[==[{text}]==]"
