"""What a parser that its input has taken over would try, for test_confine_walls.py: each returns, or raises OSError."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

Files = Mapping[str, IO[bytes]]
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER, _PTRACE_SEIZE, _PR_SET_PDEATHSIG = 0x10000000, 0x4206, 1


def attack(request: Mapping[str, Any], inputs: Files, _outputs: Files) -> str:
    """Returns the name of the error, or "done"."""
    try:
        ATTACKS[request["attack"]](request, inputs)
    except OSError as error:
        return type(error).__name__
    return "done"


def _reopen(_request: Mapping[str, Any], inputs: Files) -> None:
    os.close(os.open(f"/proc/self/fd/{inputs['in'].fileno()}", os.O_RDWR))


def _outlive(request: Mapping[str, Any], _inputs: Files) -> None:
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if (number := os.fork()) == 0:
            # Nothing of the child's stays open, so nobody waits for this one.
            os.closerange(0, 256)
            time.sleep(60)
        os.write(write, str(number).encode())
        os._exit(0)
    os.wait()
    Path(request["folder"], "note").write_bytes(os.read(read, 20))


def _connect(request: Mapping[str, Any], _inputs: Files) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(request["socket"])


def _run(_request: Mapping[str, Any], _inputs: Files) -> None:
    os.execv("/bin/true", ["true"])


def _called(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _steer(_request: Mapping[str, Any], inputs: Files) -> None:
    fcntl.fcntl(inputs["in"], fcntl.F_SETOWN, os.getppid())


def _empty(request: Mapping[str, Any], _inputs: Files) -> None:
    os.close(os.open(Path(request["folder"], "own"), os.O_RDONLY | os.O_TRUNC))


def _datagrams(_request: Mapping[str, Any], _inputs: Files) -> None:
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        end.close()


ATTACKS: dict[str, Callable[[Mapping[str, Any], Files], object]] = {
    # Of files.
    "read": lambda request, _: Path(request["key"]).read_bytes(),
    "read on the path": lambda request, _: Path(request["beside"]).read_bytes(),
    "list": lambda request, _: list(Path(request["key"]).parent.iterdir()),
    "write": lambda request, _: Path(request["key"]).with_name("new").write_bytes(b"x"),
    "remove": lambda request, _: Path(request["key"]).unlink(),
    "reopen to write": _reopen,
    "environment": lambda _, __: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "memory": lambda _, __: Path(f"/proc/{os.getppid()}/mem").open("r+b").close(),
    # Of calls.
    "outlive": _outlive,
    "run": _run,
    "signal": lambda _, __: os.kill(os.getppid(), signal.SIGCONT),
    "signal by a file": _steer,
    "trace": lambda _, __: _called(_LIBC.ptrace(_PTRACE_SEIZE, os.getppid(), None, None)),
    "limit": lambda _, __: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)),
    "slow down": lambda _, __: os.setpriority(os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, 0)),
    "outlive the parent": lambda _, __: _called(_LIBC.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)),
    "capabilities": lambda _, __: _called(_LIBC.unshare(_CLONE_NEWUSER)),
    "socket": _connect,
    "datagrams": _datagrams,
    "share memory": lambda _, __: _called(_LIBC.shmget(0, 4096, 0o600)),
    "rights": lambda request, _: Path(request["key"]).chmod(0o644),
    "rights of the input": lambda _, inputs: os.fchmod(inputs["in"].fileno(), 0o644),
    "times": lambda request, _: os.utime(request["key"], (0, 0)),
    "truncate": lambda request, _: os.truncate(Path(request["folder"], "own"), 0),
    "empty by reading": _empty,
}


def in_folder(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> str:
    """Does in the folder what SQLite and an index do; returns where temporary files go."""
    folder = Path(request["folder"])
    (folder / "below").mkdir()
    (folder / "a").write_bytes(b"old")
    (folder / "a").write_bytes(b"new")
    (folder / "a").rename(folder / "below" / "b")
    with (folder / "below" / "b").open("r+b") as file:
        file.truncate(1)
    assert (folder / "below" / "b").read_bytes() == b"n"
    (folder / "below" / "b").unlink()
    (folder / "below").rmdir()
    return os.environ["TMPDIR"]


def threads(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> list[str]:
    """Starts a thread, and tries to start a process in it."""
    said: list[str] = []

    def work() -> None:
        try:
            os.fork()
        except OSError as error:
            said.append(type(error).__name__)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return said


def abort(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    os.abort()
