"""Runs an order as `run_reported` on a kernel that lacks some walls: `without_walls.py JSON`; prints what came of it.

A filter of this process answers the calls that a wall needs as such a kernel would.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

# What each wall needs, on x86-64 and aarch64, and how a kernel without it answers.
NEEDS = {
    "network": ((272, 97), errno.EPERM),
    "files": ((444, 444), errno.EOPNOTSUPP),
    "calls": ((157, 167), errno.EINVAL),
}
_MACHINES = ("x86_64", "aarch64")
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38


def take_away(walls: list[str]) -> None:
    """Makes the kernel answer as one without these walls, for this process and its children."""
    column = _MACHINES.index(os.uname().machine)
    steps = []
    for wall in walls:
        numbers, error = NEEDS[wall]
        refused = (0x06, 0, 0, 0x00050000 | error)
        steps.append((0x20, 0, 0, 0))
        if wall == "calls":  # prctl(2): of its many uses the filter alone
            steps += [(0x15, 0, 3, numbers[column]), (0x20, 0, 0, 16), (0x15, 0, 1, _PR_SET_SECCOMP), refused]
        else:
            steps += [(0x15, 0, 1, numbers[column]), refused]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *s) for s in [*steps, (0x06, 0, 0, 0x7FFF0000)]))
    program = struct.pack("=H6xQ", len(steps) + 1, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0) == 0


def main() -> None:
    order = json.loads(sys.argv[1])
    sys.path[:0] = order["path"]
    from bundler.confine import Confinement, run_confined, run_reported

    take_away(order["walls"])
    words: dict[str, Any] = {
        "inputs": {name: Path(path) for name, path in order["inputs"].items()},
        "folders": [Path(folder) for folder in order["folders"]],
        "confinement": Confinement(memory_bytes=2**29, cpu_s=20, wall_s=30),
    }
    for _ in range(order["often"]):
        run_confined(order["target"], order["request"], **words)
    done = run_reported(order["target"], order["request"], **words)
    print(json.dumps({"missing": dict(done.missing), "result": done.result}))  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
