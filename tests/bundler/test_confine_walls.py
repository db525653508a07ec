"""The walls around the confined child: what a parser that was taken over tries, with each wall and without it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bundler import confined_calls
from bundler.confine import Confinement, check_isolation, run_confined, run_reported
from bundler.confined_calls import REFUSED, UNKNOWN, Step, program
from bundler.format.errors import BadInput

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SMALL = Confinement(memory_bytes=2**29, cpu_s=20, wall_s=30)
OF_FILES = ("read", "read on the path", "list", "write", "remove", "reopen to write", "environment", "memory")
OF_CALLS = (
    "outlive", "run", "signal", "signal by a file", "trace", "limit", "slow down", "outlive the parent", "capabilities",
    "socket", "datagrams", "share memory", "rights", "rights of the input", "times", "truncate", "empty by reading",
)  # fmt: skip
# The child's user namespace or lack of capabilities refuses these as well; the last two do not return, or live on.
NOT_ALONE = {"environment", "memory", "trace", "limit", "slow down", "capabilities", "run", "outlive"}
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A key in its folder, a file on Python's path, a socket that listens, and a folder that is the child's."""
    for name in ("keys", "own", "path"):
        (tmp_path / name).mkdir()
    (tmp_path / "keys/key").write_text("secret")
    (tmp_path / "keys/key").chmod(0o600)
    (tmp_path / "own/own").write_text("mine")
    (tmp_path / "path/beside").write_text("a note of the operator's")
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield {
            "key": str(tmp_path / "keys/key"),
            "beside": str(tmp_path / "path/beside"),
            "folder": str(tmp_path / "own"),
            "socket": str(tmp_path / "s"),
        }


def _need(wall: str) -> None:
    """Skips where this kernel lacks a wall."""
    if reason := check_isolation().missing.get(wall):
        pytest.skip(f"this kernel does not grant the wall {wall!r}: {reason}")


def _tried(place: Mapping[str, str], attack: str) -> Any:
    request = {**place, "attack": attack}
    inputs, folders = {"in": Path(place["key"])}, [Path(place["folder"])]
    return run_confined("wall_targets:attack", request, inputs=inputs, folders=folders, confinement=SMALL)


def _without(walls: list[str], place: Mapping[str, str], attack: str, often: int = 0) -> tuple[dict[str, Any], str]:
    """Does the same on a kernel without some walls; returns what came of it and what was logged."""
    if os.uname().machine not in confined_calls._ARCHITECTURES:
        pytest.skip("a kernel that lacks something is played on x86-64 and aarch64 alone")
    order = {
        "walls": walls,
        "path": [str(ROOT), str(HERE), str(Path(place["beside"]).parent)],
        "target": "wall_targets:attack",
        "request": {**place, "attack": attack},
        "inputs": {"in": place["key"]},
        "folders": [place["folder"]],
        "often": often,
    }
    words = [sys.executable, str(HERE / "without_walls.py"), json.dumps(order)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


@pytest.mark.parametrize("attack", [*OF_FILES, *OF_CALLS])
def test_a_parser_that_was_taken_over_reaches_nothing(place: dict[str, Any], attack: str) -> None:
    """No file of the user's, no other process, no life after its parent: each try is refused, and nothing changed."""
    _need("files" if attack in OF_FILES else "calls")
    before = Path(place["key"]).stat()
    assert _tried(place, attack) in {"PermissionError", "OSError"}
    after = Path(place["key"]).stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert Path(place["key"]).read_text() == "secret"
    assert Path(place["folder"], "own").read_text() == "mine"
    assert [path.name for path in Path(place["key"]).parent.iterdir()] == ["key"]


@pytest.mark.parametrize("attack", [name for name in (*OF_FILES, *OF_CALLS) if name not in NOT_ALONE])
def test_without_its_wall_each_try_succeeds(place: dict[str, Any], attack: str) -> None:
    """What holds is the wall that is named, since a kernel without it lets the try pass."""
    wall = "files" if attack in OF_FILES else "calls"
    _need(wall)
    found, _ = _without([wall], place, attack)
    assert found["result"] == "done"
    assert wall in found["missing"]


def test_without_the_filter_a_grandchild_of_root_outlives_its_limit(place: dict[str, Any]) -> None:
    """The weakness that the filter mends: a process in a session of its own, from which RLIMIT_NPROC exempts root."""
    if os.getuid() != 0:
        pytest.skip("of another user than root, RLIMIT_NPROC refuses every process")
    found, _ = _without(["calls"], place, "outlive")
    number = int(Path(place["folder"], "note").read_text())
    os.kill(number, signal.SIGKILL)  # raises ProcessLookupError if it did not live on
    assert found["result"] == "done"


def test_without_namespaces_the_filter_keeps_the_network_away(place: dict[str, Any]) -> None:
    """As in a container whose maker forbids user namespaces: nothing is missing, and no socket opens."""
    _need("calls")
    found, said = _without(["network"], place, "socket", often=1)
    assert (found["missing"], found["result"], said) == ({}, "OSError", "")


def test_a_kernel_without_any_wall_still_builds_and_is_told_of(place: dict[str, Any]) -> None:
    """The work is done; each thing that a child could do is logged once, with the reason."""
    found, said = _without(["network", "files", "calls"], place, "read", often=3)
    assert found["result"] == "done"
    assert set(found["missing"]) == {"network", "files", "calls"}
    for words in (
        "can reach the network: unshare: Operation not permitted",
        "can open this user's files: Landlock: Operation not supported",
        "can start processes and reach those of this user: seccomp: Invalid argument",
    ):
        assert said.count(f"foreign files are read by a process that {words}") == 1
    assert len(said.splitlines()) == 3


def test_a_folder_of_its_own_is_open_to_the_child(place: dict[str, Any]) -> None:
    """It makes, changes, moves and removes files there; temporary files go there, too."""
    folders = [Path(place["folder"])]
    found = run_confined("wall_targets:in_folder", place, folders=folders, confinement=SMALL)
    assert found == place["folder"]


def test_threads_start_where_a_library_has_its_own(place: dict[str, Any]) -> None:
    """The filter tells a thread from a process, and holds in the thread."""
    _need("calls")
    limits = Confinement(starts_threads=True)
    assert run_confined("wall_targets:threads", place, confinement=limits) == ["PermissionError"]


def test_a_child_may_still_end_itself(place: dict[str, Any]) -> None:
    """What a native library does that finds itself broken is told by its name."""
    with pytest.raises(BadInput, match="SIGABRT"):
        run_confined("wall_targets:abort", place, confinement=SMALL)


def test_the_report_names_known_walls_alone() -> None:
    """What the child says of itself before it reads anything is held to the form."""
    done = run_reported("bundler.confined_child:nothing", {})
    assert set(done.missing) <= {"network", "files", "calls"}
    assert len(done.gaps) == len(done.missing)


@pytest.mark.parametrize("machine", confined_calls._ARCHITECTURES)
def test_the_filter_decides_on_every_machine(machine: str) -> None:
    """Played step by step: the listed calls are refused, others pass, foreign sets of system calls kill."""
    column = list(confined_calls._ARCHITECTURES).index(machine)
    steps, arch = program(machine, 77), confined_calls._ARCHITECTURES[machine]
    for call in REFUSED.values():
        if (number := call[column]) is not None:
            assert _played(steps, arch, number) == 0x00050000 | errno.EPERM
    for call in UNKNOWN.values():
        assert _played(steps, arch, call[column] or 0) == 0x00050000 | errno.ENOSYS
    read, clone, kill = ((0, 63), (56, 220), (62, 129))
    assert _played(steps, arch, read[column]) == 0x7FFF0000
    assert _played(steps, arch, clone[column], 0x3D0F00) == 0x7FFF0000
    assert _played(steps, arch, clone[column], 17) == 0x00050000 | errno.EPERM
    assert _played(steps, arch, kill[column], 77) == 0x7FFF0000
    assert _played(steps, arch, kill[column], 1) == 0x00050000 | errno.EPERM
    assert _played(steps, 0x40000003, read[column]) == 0x80000000
    assert _played(steps, arch, 0x40000000) == 0x80000000


def _played(steps: list[Step], arch: int, number: int, first: int = 0) -> int:
    """Runs the filter as the kernel does (bpf(4), seccomp(2)) on a call with one argument; returns its verdict."""
    data, value, at = {0: number, 4: arch, 16: first}, 0, 0
    while True:
        what, holds, fails, word = steps[at]
        at += 1
        match what:
            case 0x20:
                value = data.get(word, 0)
            case 0x54:
                value &= word
            case 0x15:
                at += holds if value == word else fails
            case 0x35:
                at += holds if value >= word else fails
            case 0x06:
                return word


@pytest.mark.parametrize("column", [0, 1])
def test_the_numbers_are_those_of_the_kernel_headers(column: int) -> None:
    """A number that is off by one would refuse something else, and let the call pass."""
    if not HEADERS[column].exists():
        pytest.skip(f"no {HEADERS[column]} here: linux-libc-dev of this machine")
    pattern = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
    known = {name: int(number) for name, number in pattern.findall(HEADERS[column].read_text())}
    listed = {**REFUSED, **UNKNOWN, "socket": confined_calls.NO_SOCKET}
    checked = {name: call[column] for name, call in listed.items() if name in known}
    assert len(checked) > 40
    assert checked == {name: known[name] for name in checked}
    later = {"fchmodat2", "setxattrat", "removexattrat"}  # the headers of Debian 12 are older
    assert {name for name, call in listed.items() if call[column] is not None} - checked.keys() <= later
