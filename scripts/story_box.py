"""The processes of the story: builder and box as a user runs them, the fake cloud, and plain HTTP to the box."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

SCRIPTS = Path(__file__).resolve().parent
PROFILE = SCRIPTS.parent / "profiles" / "demo.toml"
SITE = "demo-site"
FIRST_WORD_S, WORD_S = 3, 15  # after so long a silence looks like a fault


T = TypeVar("T")


class StoryFailed(Exception):
    """A step of the story did not hold."""


def demand(condition: object, fact: str) -> None:
    """Raises StoryFailed with the fact unless the condition holds."""
    if not condition:
        raise StoryFailed(fact)


@dataclass(frozen=True)
class Answer:
    """What came back: HTTP status, headers in lower case, the JSON body, and how long it took in seconds."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass(frozen=True)
class Stream:
    """A streamed answer: the rung that gives it, and the data of its events."""

    rung: str
    events: Generator[str]


@dataclass
class Workplace:
    """Everything under `.quickstart`, and the programs run on it."""

    folder: Path

    def run(self, program: str, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `lifeboat` or `lifeboat-appliance`; its messages go to the terminal, its result is returned."""
        command = [str(Path(sys.executable).parent / program), *map(str, words)]
        environment = {**os.environ, "LIFEBOAT_HOME": str(self.folder / "home")}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        demand(not check or done.returncode == 0, f"{program} {words[0]} ended with exit code {done.returncode}")
        return done

    def start(self, log: str, *command: str | Path) -> subprocess.Popen[bytes]:
        """Starts a server of the story; its output goes to a log."""
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)

    def cloud(self, port: int, seconds: float) -> subprocess.Popen[bytes]:
        """Starts the fake cloud and waits until it answers."""
        program = SCRIPTS / "fake_cloud.py"
        process = self.start("cloud.log", sys.executable, program, "--port", str(port), "--for-s", str(seconds))
        wait_for(lambda: _answers(port), 20, f"the fake cloud on port {port}")
        return process


class Box:
    """HTTP to the box with a token."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._token = str(parts.hostname), int(parts.port or 80), token

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        return self._ask("POST", path, body)

    def stream(self, path: str, body: dict[str, Any]) -> Stream:
        """Begins a streamed answer."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        connection.request("POST", path, json.dumps({**body, "stream": True}), self._headers())
        response = connection.getresponse()
        demand(response.status == 200, f"{path}: HTTP {response.status} {response.read(300)!r}")
        return Stream(response.headers["X-Lifeboat-Rung"], _events(response, connection))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Answer:
        start = time.monotonic()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=180)
        connection.request(method, path, None if body is None else json.dumps(body), self._headers())
        response = connection.getresponse()
        data = response.read()
        connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, json.loads(data), time.monotonic() - start)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}


def wait_for(look: Callable[[], T | None], seconds: float, what: str, *, every_s: float = 0.1) -> T:
    """Looks until something is found, and returns it; who waits is told for what, and how long it may take."""
    began = time.monotonic()
    told = began + FIRST_WORD_S - WORD_S
    while not (found := look()):
        now = time.monotonic()
        demand(now < began + seconds, f"{what} did not come within {seconds:.0f} s")
        if now >= told + WORD_S:
            told = now
            waited = f"{now - began:.0f} s so far, {seconds:.0f} s at most"
            print(f"      waiting for {what}: {waited}", file=sys.stderr, flush=True)
        time.sleep(every_s)
    return found


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """Ends a process of the story."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _events(response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> Generator[str]:
    try:
        for line in response:
            if line.startswith(b"data: "):
                yield line[6:].decode().strip()
    finally:
        connection.close()


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
    except OSError:
        return False
    connection.close()
    return True
