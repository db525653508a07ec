"""The box's own unit under a real systemd: in namespaces of its own it is PID 1, opens the seal and starts the service.

What stands in: a fresh systemd for a boot, SIGKILL to it for a power cut, and the host key for a TPM2, whose
credential takes the same way.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from appliance.host.unit import Service, unit_text
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal

SYSTEMD = Path("/lib/systemd/systemd")
pytestmark = [
    pytest.mark.llm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or not SYSTEMD.exists() or shutil.which("systemd-creds") is None,
        reason="needs root, systemd and systemd-creds",
    ),
]
USER, PROGRAM = "daemon", Path("/opt/lifeboat/bin/lifeboat-appliance")
# Mounts of this namespace alone; the program must be seen by a user who may not enter the folders above it.
BOOT = """
set -eu
mount --make-rshared /
for place in systemd python program state; do mkdir -p "$WORK/$place"; done
mount --bind /var/lib/systemd "$WORK/systemd"
mount --bind "$PYTHON" "$WORK/python"
mount --bind "$PROGRAM" "$WORK/program"
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /var/lib/systemd /var/lib/lifeboat
mount --bind "$WORK/systemd" /var/lib/systemd
mount --bind "$STATE" /var/lib/lifeboat
case "$PYTHON" in /root/*) mount -t tmpfs -o mode=755 tmpfs /root; mkdir -p "$PYTHON"
  mount --bind "$WORK/python" "$PYTHON" ;; esac
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec env -i container=lifeboat-test PATH=/usr/bin:/bin SYSTEMD_UNIT_PATH="$WORK/units" \
  /lib/systemd/systemd --system --unit=boot.target --show-status=0
"""
EMPTY = "[Unit]\nDefaultDependencies=no\n"


@dataclass(frozen=True)
class Machine:
    """A box's state, its unit, and what a client needs."""

    work: Path
    state: Path
    port: int
    token: str

    @contextmanager
    def booted(self) -> Iterator[int]:
        """Boots, yields the process id of systemd outside, and pulls the plug."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "WORK": str(self.work),
            "STATE": str(self.state),
            "PYTHON": str(Path(sys.base_prefix).resolve()),
            "PROGRAM": str(Path(__file__).resolve().parents[2]),
        }
        words = ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--mount-proc", "--kill-child"]
        with (self.work / "console").open("ab") as console:
            process = subprocess.Popen(
                [*words, "sh", "-c", BOOT], env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()
            while listens(self.port):  # its namespace ends a moment later
                time.sleep(0.05)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", data, headers), timeout=120) as answer:
            return json.load(answer)

    def wait(self, ready: Any, limit_s: float = 120) -> None:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with suppress(URLError, OSError, KeyError):
                if ready():
                    return
            time.sleep(0.2)
        raise AssertionError((self.work / "console").read_text() + (self.work / "log").read_text())


def owners(pid: int) -> Iterator[int]:
    """Whose the memory of a box's processes is: root's where others of their user may not look in."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    if any(b"appliance" in word for word in words) and b"unshare" not in words:
        yield Path(f"/proc/{pid}/mem").stat().st_uid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from owners(int(child))


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def machine(customer: Any, tmp_path: Path) -> Machine:
    work, state = tmp_path / "w", tmp_path / "s"
    units = work / "units"
    units.mkdir(parents=True)
    tmp_path.chmod(0o755)
    shutil.copytree(customer.pristine, state, symlinks=True)
    customer.must("appliance", "seal", "renew", "--machine", "host", "--state", state)
    made = json.loads(customer.must("appliance", "token", "create", "unit", "--state", state, "--json"))
    for path in (state, *state.rglob("*")):
        shutil.chown(path, USER, USER) if not path.is_symlink() else os.lchown(path, 1, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.prefix) / "bin" / "lifeboat-appliance"
    service = Service(
        PROGRAM, Path("/opt/lifeboat"), Path("/var/lib/lifeboat"), USER, "127.0.0.1", port, gpu=False, sealed=True
    )
    (units / "lifeboat.service").write_text(unit_text(service).replace(str(PROGRAM), str(program)))
    shown = {"program": Path(__file__).resolve().parents[2], "python": Path(sys.base_prefix).resolve()}
    seen = "".join(f"BindReadOnlyPaths={work}/{name}:{path}\n" for name, path in shown.items())
    drop_in = units / "lifeboat.service.d" / "test.conf"
    drop_in.parent.mkdir()
    # A checkout under /root or /home is not where a box's program lies.
    log = f"StandardOutput=append:{work}/log\nStandardError=append:{work}/log\n"
    drop_in.write_text(f"[Service]\nProtectHome=tmpfs\n{seen}{log}")
    for name in ("sysinit", "basic", "shutdown", "network"):
        (units / f"{name}.target").write_text(EMPTY)
    (units / "boot.target").write_text(f"{EMPTY}Wants=lifeboat.service\n")
    (work / "log").touch()
    return Machine(work, state, port, made["token"])


def test_the_unit_serves_after_a_power_cut_with_nobody_present(machine: Machine) -> None:
    """Booted twice: PID 1 opens the seal, an unprivileged user serves in the sandbox, FAQ and model answer."""
    assert not (Seal(StateLayout(machine.state).keys).folder / "machine.key").exists()
    for _ in range(2):
        with machine.booted() as systemd:
            machine.wait(lambda: machine.ask("/health/ready")["ready"])
            machine.wait(
                lambda: (
                    {rung["rung"]: rung["state"] for rung in machine.ask("/health/ready")["rungs"]}["smollm2-135m"]
                    == "ready"
                )
            )
            asked = machine.ask(
                "/v1/chat/completions",
                {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8},
            )
            assert asked["lifeboat"]["rung"] == "smollm2-135m"
            assert list(owners(systemd)) == [0, 0, 0]  # supervisor, serving process, engine
