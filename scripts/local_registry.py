#!/usr/bin/env python3
"""A real registry on loopback: Debian's `docker-registry`, with its store in a folder, and a front that counts.

`LocalRegistry` starts the program and stops it; `front()` puts `registry_front.Front` before it, which notes every
request with its bytes and can break some on purpose. Run as a program it serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry_front import Front

PROGRAM = "docker-registry"
START_S, STOP_S = 20.0, 10.0


@dataclass
class LocalRegistry:
    """A registry with a filesystem store.

    Attributes:
        folder: Its own folder: configuration, log, store. Kept over a restart.
        users: Passwords by name; none lets everybody in. They are stored as htpasswd wants them, by bcrypt.
        certificate, key: PEM files for TLS; none serves plain HTTP.
        settings: More of its configuration, merged over ours at the top level's keys.
    """

    folder: Path
    users: Mapping[str, str] = field(default_factory=dict)
    certificate: Path | None = None
    key: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def host(self) -> str:
        """Host and port, as a reference names them."""
        return f"127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        """The folder of its blobs and links."""
        return self.folder / "store"

    @property
    def log(self) -> Path:
        """What the registry itself wrote."""
        return self.folder / "registry.log"

    def blob(self, digest: str) -> Path:
        """The file that holds a blob, for whoever wants to spoil it."""
        algorithm, text = digest.split(":")
        return self.store / "docker/registry/v2/blobs" / algorithm / text[:2] / text / "data"

    def start(self) -> LocalRegistry:
        """Starts it unless it runs, on the port that it had or a free one, and waits until it answers.

        Raises:
            RuntimeError: It did not come up.
        """
        if self._process is not None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(3):  # somebody else may take the port between our look and its start
            self.port = self.port or _free_port()
            (self.folder / "config.json").write_text(json.dumps(self._configuration()))
            words = [*_dies_with_us(), PROGRAM, "serve", str(self.folder / "config.json")]
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if self._answers():
                return self
            self.stop()
            self.port = 0
        raise RuntimeError(f"{PROGRAM} does not come up: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Stops it; its store stays."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """Ends it at once, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stops it and starts it on the same port with the same store."""
        self.stop()
        self.start()

    def front(self) -> Front:
        """A counting, faulty front before it, which ends with the registry."""
        return self._open.enter_context(Front(self.port))

    def __enter__(self) -> LocalRegistry:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.stop()

    def _configuration(self) -> dict[str, Any]:
        http_: dict[str, Any] = {"addr": self.host, "secret": "of a test"}
        if self.certificate:
            http_["tls"] = {"certificate": str(self.certificate), "key": str(self.key)}
        config: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.store)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http_,
        }
        if self.users:
            config["auth"] = {"htpasswd": {"realm": "lifeboat tests", "path": str(self._passwords())}}
        return config | dict(self.settings)

    def _passwords(self) -> Path:
        import bcrypt

        path = self.folder / "htpasswd"
        lines = [f"{n}:{bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}" for n, p in self.users.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _answers(self) -> bool:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process is not None and self._process.poll() is None:
            try:
                if self._status() in (200, 401):
                    return True
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
        return False

    def _status(self) -> int:
        tls = ssl._create_unverified_context()  # of our own child, for whether it is up
        secure = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=tls)
        asked = secure if self.certificate else http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            asked.request("GET", "/v2/")
            return asked.getresponse().status
        finally:
            asked.close()


def present() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _dies_with_us() -> list[str]:
    """The words that end the child also where we are killed."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where its store lies; made where it is not there")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    chosen = parser.parse_args()
    with LocalRegistry(chosen.folder, port=chosen.port) as registry:
        print(f"http://{registry.host} (Ctrl-C ends it)", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
