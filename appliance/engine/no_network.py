"""Takes the network from this process and all that it starts, for good.

A filter of system calls (seccomp(2)) and no network namespace: the service's unit forbids namespaces, and a filter asks
for no privilege. Unix sockets stay, since engines are asked over them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

# linux/audit.h and the system call of socket(2), by machine.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425  # on every machine; it makes sockets without socket(2)
_X32 = 0x40000000  # the first of x86-64's second set of system calls, which no program of ours makes
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2  # linux/prctl.h, linux/seccomp.h
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT, 0x80000000
_LOAD, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_NUMBER, _ARCH, _DOMAIN = (
    0,
    4,
    16,
)  # offsets in seccomp_data; the domain's low word, since both machines are little-endian
_AF_UNIX = 1


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def can_leave() -> bool:
    """Whether the system calls of this machine are known here."""
    return os.uname().machine in _MACHINES and sys.maxsize > 2**32


def leave_network() -> bool:
    """Forbids every socket that is not a Unix one; before any thread starts, since a filter is its thread's.

    Returns:
        Whether it holds: False on a machine whose system calls are not known here.

    Raises:
        OSError: The kernel refuses.
    """
    if not can_leave():
        return False
    steps = _steps(*_MACHINES[os.uname().machine])
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")
    return True


def _steps(arch: int, socket: int) -> list[tuple[int, int, int, int]]:
    """Returns the filter: (what, how many steps on if it holds, how many if not, value)."""
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUALS, 0, 8, arch),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 5, 0, _X32),
        (_EQUALS, 4, 0, _IO_URING_SETUP),
        (_EQUALS, 0, 2, socket),
        (_LOAD, 0, 0, _DOMAIN),
        (_EQUALS, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _KILL),
    ]
