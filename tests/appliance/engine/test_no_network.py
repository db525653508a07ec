"""A process that has left the network reaches nobody but by Unix sockets."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from typing import Any

import pytest

from appliance.engine.no_network import can_leave

pytestmark = pytest.mark.skipif(not can_leave(), reason="the system calls of this machine are not known")

TRIES = """
import ctypes, json, os, socket, subprocess, sys, threading
from appliance.engine.no_network import leave_network

assert leave_network()

def made(family):
    try:
        socket.socket(family, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno
    return 0

found = {name: made(getattr(socket, name)) for name in ("AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET")}
threads = []
thread = threading.Thread(target=lambda: threads.append(made(socket.AF_INET)))
thread.start()
thread.join()
found["thread"] = threads[0]
libc = ctypes.CDLL(None, use_errno=True)
found["io_uring"] = ctypes.get_errno() if libc.syscall(425, 1, None) == -1 else 0
code = "import socket, sys; sys.exit(socket.socket().fileno() < 0)"
found["child"] = subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
print(json.dumps(found))
"""


def test_only_unix_sockets_are_left() -> None:
    """Not in a thread, not in a child that it starts, and not by the side door of io_uring."""
    done = subprocess.run([sys.executable, "-c", TRIES], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("AF_UNIX") == 0
    assert found.pop("child") == 1
    assert set(found.values()) == {errno.EAFNOSUPPORT}
