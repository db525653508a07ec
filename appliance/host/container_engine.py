"""Hands images to podman or docker of this machine: loaded under a name of ours, looked at, removed; never started.

A remote engine is never asked: neither `CONTAINER_HOST` nor `DOCKER_HOST` is handed on.
"""

from __future__ import annotations

import io
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from appliance.store.owner import as_root
from bundler.format.errors import PartMissing, SystemFailed

PODMAN, DOCKER = ENGINES = ("podman", "docker")
_SOCKETS = (Path("/run/docker.sock"), Path("/var/run/docker.sock"))
_PASSED = (
    "PATH", "HOME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
)  # fmt: skip
_ASK_S, _STILL_S, _LOAD_S = 60, 600, 3_600
_SAID_BYTES = 4_096


class _Pipe(io.RawIOBase):
    """The way into an engine: an engine that reads no more would otherwise hold `install` for ever."""

    def __init__(self, pipe: IO[bytes], name: str) -> None:
        super().__init__()
        self._descriptor, self._name, self._stuck = pipe.fileno(), name, False
        os.set_blocking(self._descriptor, False)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            if self._stuck or not select.select([], [self._descriptor], [], _STILL_S)[1]:
                self._stuck = True  # the archive is closed by another write
                raise SystemFailed(f"{self._name} load stands still: it took nothing for {_STILL_S} s")
            view = view[os.write(self._descriptor, view) :]
        return len(data)


@dataclass(frozen=True)
class Engine:
    """One of ENGINES, and the words that begin each command."""

    name: str
    words: tuple[str, ...]

    def image_id(self, reference: str) -> str:
        """Returns the id of an image, which is the digest of its config in hex, or "" where it is not there."""
        done = self._run("image", "inspect", "--format", "{{.Id}}", reference)
        return done.stdout.strip().removeprefix("sha256:") if done.returncode == 0 else ""

    def load(self, write: Callable[[Any], None]) -> None:
        """Loads an archive that `write` writes.

        Raises:
            SystemFailed: The engine did not take it, or stands still.
            LifeboatError: What `write` raised.
        """
        with tempfile.TemporaryFile() as said, self._started(said) as process:
            try:
                if process.stdin is not None:
                    with suppress(BrokenPipeError):  # it says why on its way out
                        write(_Pipe(process.stdin, self.name))
                    process.stdin.close()
                code = process.wait(_LOAD_S)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise SystemFailed(f"{self.name} load does not end: {error.timeout:.0f} s after it had all") from error
            except BaseException:
                process.kill()
                raise
            said.seek(0)
            if code != 0:
                words = _last(said.read()[-_SAID_BYTES:].decode(errors="replace"))
                raise SystemFailed(f"{self.name} does not take it: {words}")

    def tag(self, reference: str, name: str) -> None:
        """Gives an image one more name; raises SystemFailed."""
        self._must("tag", reference, name)

    def remove(self, reference: str) -> None:
        """Takes a name away, and the image with its last one; raises SystemFailed where a container uses it."""
        self._must("image", "rm", reference)

    def release(self, reference: str) -> None:
        """Takes a name away and leaves the image, which is another's; raises SystemFailed."""
        if self.name == PODMAN:
            self._must("untag", reference, reference)
        elif int(self._must("image", "inspect", "--format", "{{len .RepoTags}}", reference)) > 1:
            self._must("image", "rm", reference)  # docker would remove the image with its last name

    def _started(self, said: IO[bytes]) -> subprocess.Popen[bytes]:
        with as_root():
            return subprocess.Popen(
                [*self.words, "load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                bufsize=0,
                env=_environment(),
            )

    def _must(self, *words: str) -> str:
        done = self._run(*words)
        if done.returncode != 0:
            raise SystemFailed(f"{self.name} {words[0]}: {_last(done.stderr)}")
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            with as_root():
                return subprocess.run(
                    [*self.words, *words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_ASK_S,
                    env=_environment(),
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SystemFailed(f"{self.name} {words[0]}: {error}") from error


def find_engine(wanted: str = "", sockets: Sequence[Path] = _SOCKETS) -> Engine:
    """Returns podman, or docker where podman is not installed and docker's socket is there.

    Args:
        wanted: One of ENGINES, or "" for the first that is here.
        sockets: Where docker's daemon listens on this machine.

    Raises:
        PartMissing: None is here.
    """
    if wanted in ("", PODMAN) and (program := shutil.which(PODMAN)):
        return Engine(PODMAN, (program,))
    socket = next((path for path in sockets if path.is_socket()), None)
    if wanted in ("", DOCKER) and (program := shutil.which(DOCKER)) and socket is not None:
        return Engine(DOCKER, (program, "--host", f"unix://{socket}"))
    raise PartMissing(
        f"this machine has {f'no {wanted}' if wanted else 'neither podman nor docker'}",
        "lifeboat-appliance image export NAME FOLDER writes an OCI layout, which any engine takes",
    )


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED if name in os.environ}


def _last(said: str) -> str:
    found = [line.strip() for line in said.splitlines() if line.strip()]
    return "".join(letter if letter.isprintable() else "?" for letter in found[-1][-400:]) if found else "no word"
