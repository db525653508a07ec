"""Software travels on the medium: a bare machine gets it from `install.sh`, a serving box moves on and back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.store import current
from appliance.store.layout import StateLayout
from appliance.store.programs import Programs

pytestmark = [pytest.mark.llm, pytest.mark.timeout(900)]
SHELL = shutil.which("dash") or "sh"


@dataclass(frozen=True)
class Delivered:
    """A customer whose repository holds software, a stick, and a machine to install it on."""

    maker: Any
    folder: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def usb(self) -> Path:
        return self.folder / "usb"

    @property
    def layout(self) -> StateLayout:
        return StateLayout(self.folder / "state")

    @property
    def programs(self) -> Programs:
        return Programs(self.folder / "opt")

    def ship(self, house: Path) -> str:
        """Puts a program into the repository and all of it on the stick; returns the digest on the slip."""
        keys = ("--passphrase-file", self.folder / "pass")
        self.maker.must("bundler", "runtime", house, "--repository", self.repository, *keys)
        copied = self.maker.must(
            "bundler", "copy", self.repository, self.usb, "--site", "bristol", "--full", "--json", *keys
        )
        return str(json.loads(copied)["installer_sha256"])

    def words(self) -> list[str]:
        """The command of a technician, who has copied the script off the stick."""
        shutil.copy(self.usb / "install.sh", self.folder / "install.sh")
        words = [SHELL, str(self.folder / "install.sh"), str(self.usb), "--no-service"]
        words += [
            "--prefix",
            str(self.programs.folder),
            "--state",
            str(self.layout.root),
            "--python",
            str(Path(sys.executable).resolve()),
        ]
        return [*words, "--site", "bristol", "--site-code-file", str(self.folder / "code")]

    def install_sh(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(), capture_output=True, text=True, timeout=280, check=False)

    def box(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs the program that the service starts with."""
        command = [str(self.programs.folder / "current" / "bin" / "lifeboat-appliance"), *map(str, words)]
        environment = {**os.environ, "LIFEBOAT_PROGRAMS": str(self.programs.folder), "NO_COLOR": "1"}
        environment["LIFEBOAT_STATE"] = str(self.layout.root)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)

    def must(self, *words: str | Path) -> str:
        done = self.box(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def served(self) -> Iterator[Served]:
        url, log = self.folder / "url", self.folder / "log"
        url.unlink(missing_ok=True)
        words = ["serve", "--state", self.layout.root, "--programs", self.programs.folder, "--port", "0"]
        command = [self.programs.folder / "current" / "bin" / "lifeboat-appliance", *words, "--port-file", url]
        with log.open("ab") as output:
            process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=output)
        try:
            wait_for(lambda: url.exists() or process.poll() is not None)
            yield Served(url.read_text().strip(), process)
        finally:
            process.terminate()
            process.wait(60)


@dataclass(frozen=True)
class Served:
    """A box that serves."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def supervisor(self) -> str:
        """The program that supervises, by its folder."""
        return program_of(self.process.pid)

    @property
    def serving(self) -> str:
        """The program of the serving process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return program_of(int(children[-1])) if children else ""  # one that leaves came before it

    def asks(self, token: str) -> str:
        question: Any = {"role": "user", "content": "After how many minutes does a locked account open again?"}
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=token, max_retries=0, timeout=60) as client:
            answer = client.chat.completions.create(model="auto", messages=[question])
        return str(answer.choices[0].message.content)


def program_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().split("/opt/")[-1].split("/")[0]


def wait_for(look: Callable[[], Any], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def houses(runtime_houses: Callable[[str], Path]) -> tuple[Path, Path]:
    """The program of this checkout, and a later version of it."""
    return runtime_houses("0.1.0"), runtime_houses("0.2.0")


@pytest.fixture
def delivered(customer: Any, tmp_path: Path) -> Delivered:
    """The customer with a home of its own: what it signs must not be news to other tests."""
    for name in ("home", "repository"):
        shutil.copytree(customer.folder / name, tmp_path / name, symlinks=True, copy_function=os.link)
    for name in ("pass", "code"):
        shutil.copy(customer.folder / name, tmp_path / name)
    return Delivered(type(customer)(tmp_path, tmp_path / "code"), tmp_path)


def test_software_travels_and_is_part_of_a_version(delivered: Delivered, houses: tuple[Path, Path]) -> None:
    """From a bare machine to a box, over a kill; to the next program under a client, back, forth, and over a reboot."""
    slip = delivered.ship(houses[0])
    assert hashlib.sha256((delivered.usb / "install.sh").read_bytes()).hexdigest() == slip
    _kill_halfway(delivered)
    done = delivered.install_sh()
    assert done.returncode == 0, done.stderr
    assert "GREEN" in done.stderr
    token = done.stdout.split("token")[-1].strip()
    again = delivered.install_sh()
    assert (again.returncode, "token" in again.stdout) == (0, False), again.stderr
    assert "nothing to do" in again.stdout
    with delivered.served() as box:
        assert (box.supervisor, box.serving) == ("0.1.0", "0.1.0")
        assert box.asks(token)
        delivered.ship(houses[1])
        said = delivered.box("install", delivered.usb)
        assert said.returncode == 0, said.stderr
        assert "program 0.2.0 goes on with the install" in said.stderr
        assert (box.supervisor, box.serving) == ("0.1.0", "0.2.0")
        assert box.asks(token)
        assert "program 0.2.0" in delivered.must("status")
        delivered.must("rollback", "--reason", "it looks odd")
        wait_for(lambda: box.serving == "0.1.0")
        delivered.must("install", delivered.usb, "--again")
        wait_for(lambda: box.serving == "0.2.0")
        assert delivered.programs.at_boot() == "0.1.0"
    with delivered.served() as box:
        assert (box.supervisor, box.serving) == ("0.2.0", "0.2.0")
        delivered.must("install", delivered.usb)
    assert delivered.programs.at_boot() == "0.2.0"
    assert delivered.programs.installed() == ["0.1.0", "0.2.0"]


def _kill_halfway(delivered: Delivered) -> None:
    """SIGKILL to the script and all that it started, while it unpacks."""
    packages = delivered.programs.folder / "0.1.0" / "lib"
    with subprocess.Popen(delivered.words(), start_new_session=True, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(packages.glob("python*/site-packages/*"))) > 3)
        os.killpg(process.pid, signal.SIGKILL)
    assert delivered.programs.installed() == []
    assert current.current_number(delivered.layout) is None if delivered.layout.root.exists() else True
