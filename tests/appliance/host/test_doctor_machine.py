"""What `doctor` says of drivers, sessions, ports, and the walls around what serves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.host import doctor_confinement, doctor_hardware, doctor_runtimes
from appliance.host.doctor_confinement import lock_holders, missing_walls, serving_processes
from appliance.host.doctor_hardware import hardware, room_for_next
from appliance.host.doctor_network import port_finding
from appliance.host.doctor_runtimes import runtimes, session_provider
from appliance.host.drivers import major_of, problems, runtime_named_in, too_old
from appliance.host.finding import Finding
from appliance.host.ports import holder_of, listening_inodes
from appliance.store.layout import StateLayout
from bundler.files import exclusive

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
WALLS = {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "Uid": "970\t970\t970\t970"}
NO_CORES = "Limit                Soft Limit  Hard Limit\nMax core file size   0           0           bytes\n"


def found(findings: Iterator[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


@pytest.mark.parametrize(
    ("driver", "cuda", "least"),
    [
        ("525.60.13", 12, None),
        ("524.99", 12, "525"),
        ("570.86.10", 12, None),
        ("570.86.10", 13, "580"),
        ("580.65.06", 13, None),
        ("999.1", 99, None),
    ],
)
def test_a_driver_is_held_against_nvidias_table(driver: str, cuda: int, least: str | None) -> None:
    """The least driver of each CUDA major version; one that the table lacks is not judged."""
    assert too_old(driver, cuda) == least


def test_a_build_for_cuda_names_its_runtime() -> None:
    """The version of a package, and the library that a shared object asks for."""
    assert [major_of(text) for text in ("12.8", "13", "", "x.1")] == [12, 13, None, None]
    assert runtime_named_in(b"\0libc.so.6\0libcudart.so.12\0") == 12
    assert runtime_named_in(b"\0libc.so.6\0") is None
    assert list(problems("570.1", {"a": 12, "b": 13})) == ["b is built for CUDA 13, which needs driver 580 at least"]


def test_a_driver_that_is_too_old_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the programs that need a newer one, and the way out."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "0, GPU-8f2c, NVIDIA L4, 550.54.14, 20480, 23034"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor_hardware, "cuda_builds", lambda: {"onnxruntime-gpu": 13})
    driver = found(hardware(), "driver")
    assert driver.state == "bad"
    assert driver.fact.startswith("550.54.14 is too old: onnxruntime-gpu is built for CUDA 13")
    assert "newer driver" in driver.hint
    monkeypatch.setattr(doctor_hardware, "cuda_builds", dict)
    assert found(hardware(), "driver").state == "good"


def test_the_session_says_what_it_runs_on() -> None:
    """A tiny session is opened; what it cannot have falls back, and is told as what it is."""
    assert session_provider(CPU) == CPU
    assert session_provider(CUDA) == CPU
    assert found(runtimes(), "embedding runtime").fact.endswith(f"a session runs on {CPU}")


def test_a_gpu_build_that_runs_on_the_cpu_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution for GPUs without what it needs falls back in silence: `doctor` does not."""
    monkeypatch.setattr(doctor_runtimes, "version", lambda name: "1.31.1" if name == "onnxruntime-gpu" else None)
    finding = found(runtimes(), "embedding runtime")
    assert (finding.state, f"runs on {CPU} and not on {CUDA}" in finding.fact) == ("bad", True)
    monkeypatch.setattr(doctor_runtimes, "version", lambda name: "1.31.1")
    assert "2 onnxruntime distributions" in found(runtimes(), "embedding runtime").fact


def test_a_next_bundle_wants_its_room(tmp_path: Path) -> None:
    """A bundle of the same size that shares nothing with this one."""
    layout = StateLayout(tmp_path)
    layout.make()
    assert room_for_next(layout, [1]).state == "good"
    assert room_for_next(layout, [1 << 60]).state == "warn"


def test_a_port_is_free_or_somebodys(tmp_path: Path) -> None:
    """Who holds it is named with its process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert f"(process {os.getpid()})" in (holder_of(port) or "")
        finding = port_finding(StateLayout(tmp_path), port)
        assert (finding.state, "another --port" in finding.hint) == ("bad", True)
    assert port_finding(StateLayout(tmp_path), port).fact == f"{port} is free; nothing serves this state"


def test_only_listeners_hold_a_port() -> None:
    """A connection from the same port is none."""
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = "00000000:00000000 00:00000000 00000000     0        0"
    table = (
        f"{head}   0: 0100007F:20FB 00000000:0000 0A {rest} 4242 1\n   1: 0100007F:20FB 0100007F:1F90 01 {rest} 77 1\n"
    )
    assert list(listening_inodes([table], 0x20FB)) == ["4242"]
    assert list(listening_inodes([table], 80)) == []


def test_walls_that_stand_are_not_told() -> None:
    """Each promise of the unit is looked for in what the kernel says of the process."""
    assert list(missing_walls(WALLS, NO_CORES, "0")) == []
    assert list(missing_walls(WALLS, NO_CORES, "")) == []


@pytest.mark.parametrize(
    ("changed", "limits", "swap", "lacking"),
    [
        ({"NoNewPrivs": "0"}, NO_CORES, "0", "no new rights"),
        ({"Seccomp": "0"}, NO_CORES, "0", "filtered system calls"),
        ({"CapEff": "000001ffffffffff"}, NO_CORES, "0", "no capabilities"),
        ({"Uid": "0\t0\t0\t0"}, NO_CORES, "0", "a user other than root"),
        ({}, "Max core file size        unlimited            unlimited bytes\n", "0", "no core dumps"),
        ({}, NO_CORES, "max", "no swap"),
    ],
)
def test_each_wall_that_is_missing_is_told(changed: dict[str, str], limits: str, swap: str, lacking: str) -> None:
    """By its own words, and it alone."""
    assert list(missing_walls({**WALLS, **changed}, limits, swap)) == [lacking]


HOLD = """
import sys, fcntl
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_processes_that_serve_are_found_by_their_lock(tmp_path: Path) -> None:
    """The one that holds the state's lock; nothing of another user's or another state's."""
    layout = StateLayout(tmp_path)
    layout.make()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, layout.serving], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert [path.name for path in serving_processes(layout)] == [str(holder.pid)]
        assert found(doctor_confinement.confinement(layout), "sandbox").state == "warn"
        holder.communicate("")
    with exclusive(layout.serving, ""):
        assert os.getpid() in lock_holders(Path("/proc/locks").read_text(), layout.serving.stat().st_ino)
    assert list(serving_processes(layout)) == []


def test_a_box_without_a_service_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit, a unit for another state, one that is not enabled, and one that is; in a container nobody asks."""
    unit, enabled = tmp_path / "lifeboat.service", tmp_path / "enabled"
    monkeypatch.setattr(doctor_confinement, "UNIT_FILE", unit)
    monkeypatch.setattr(doctor_confinement, "_ENABLED", enabled)
    monkeypatch.setattr(doctor_confinement, "_CONTAINER", tmp_path / "absent")
    monkeypatch.delenv("container", raising=False)
    layout = StateLayout(tmp_path / "state")

    def told() -> tuple[str, str]:
        finding = found(doctor_confinement.confinement(layout), "service")
        return finding.state, finding.fact

    assert told() == ("warn", f"no {unit}: nothing starts this box after a power cut")
    unit.write_text("[Service]\nExecStart=/opt/x serve --state /var/lib/other --port 9000\n")
    assert told()[1] == f"{unit} serves /var/lib/other, not {layout.root}"
    unit.write_text(f"[Service]\nExecStart=/opt/x serve --state {layout.root} --port 9000\n")
    assert "not enabled" in told()[1]
    enabled.touch()
    assert told()[0] == "good"
    monkeypatch.setenv("container", "podman")
    assert "in a container" in told()[1]
