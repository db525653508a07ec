"""The system calls that a confined child is refused: what starts, steers or reads other processes, and sockets.

A filter (seccomp(2)) asks for no privilege and no namespace, binds root and every later thread, and is never taken off.
It names what is refused and not what is allowed: parsers of many makers run behind it, on C libraries to come. With it
a child is one process for good, so whoever ends that one has ended all of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import NamedTuple

# linux/audit.h, by machine; the order of the columns below.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name: its number on x86-64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h); None where there is none.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Other processes: to start them, to look into them, to signal them, to slow them down.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30),
    # What processes of one user share without a file.
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    # A fresh namespace would give back the capabilities in it; the others open much of the kernel to an exploit.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    # Changes to files that need no right to write them, or that Landlock does not know of (truncate before Linux 6.2).
    "truncate": (76, 45), "creat": (85, None), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
}  # fmt: skip
# Those whose absence the C library knows how to do without; their arguments lie where a filter cannot look.
UNKNOWN: dict[str, tuple[int | None, int | None]] = {"clone3": (435, 435), "openat2": (437, 437)}
NO_SOCKET = (41, 198)

_CLONE_THREAD = 0x00010000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 1, 22, 38, 2
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI = 0x8901, 0x8902, 0x5412
_ANY, _SOCKET_KIND = 0xFFFFFFFF, 0xF
_STREAM = 1
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # linux/seccomp.h
_LOAD, _AND, _EQUALS, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # linux/bpf_common.h
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in seccomp_data; of an argument the low word, on little-endian machines
_X32 = 0x40000000  # the first of x86-64's second set of system calls

Step = tuple[int, int, int, int]


class Rule(NamedTuple):
    """Refuses a call where an argument, masked, is a value; or, with `unless`, where it is anything else."""

    call: tuple[int | None, int | None]
    argument: int
    mask: int
    value: int
    unless: bool = False


def _rules(own: int) -> list[Rule]:
    """Returns the calls that are refused for some arguments only; `own` is the process's own number."""
    return [
        Rule((56, 220), 0, _CLONE_THREAD, _CLONE_THREAD, unless=True),  # clone: threads, no processes
        Rule((62, 129), 0, _ANY, own, unless=True),  # kill
        Rule((234, 131), 0, _ANY, own, unless=True),  # tgkill, which abort(3) makes
        Rule((302, 261), 0, _ANY, 0, unless=True),  # prlimit64: of itself only
        Rule((157, 167), 0, _ANY, _PR_SET_PDEATHSIG),  # prctl: to outlive the parent
        # A connected pair can reach nobody else; a pair of datagram sockets could be connected anew.
        Rule((53, 199), 1, _SOCKET_KIND, _STREAM, unless=True),
        # fcntl, ioctl: signals to whom one names, and words put into a terminal.
        *(Rule((72, 25), 1, _ANY, command) for command in (_F_SETOWN, _F_SETOWN_EX)),
        *(Rule((16, 29), 1, _ANY, command) for command in (_FIOSETOWN, _SIOCSPGRP, _TIOCSTI)),
        # open, openat: to empty what may only be read, which Landlock lets pass before Linux 6.2.
        Rule((2, None), 1, os.O_TRUNC | os.O_ACCMODE, os.O_TRUNC),
        Rule((257, 56), 2, os.O_TRUNC | os.O_ACCMODE, os.O_TRUNC),
    ]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def refuse_calls() -> str:
    """Takes the filter, before any thread starts; no_new_privs must be set. Returns why it could not, or ""."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES or sys.maxsize <= 2**32:
        return f"no filter of system calls is known for {machine}"
    steps = program(machine, os.getpid())
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    words = _Program(len(steps), ctypes.cast(code, ctypes.c_void_p).value)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(words), 0, 0) != 0:
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return ""


def program(machine: str, own: int) -> list[Step]:
    """Returns the filter: (what, how many steps on if it holds, how many if not, value). Pure."""
    column = list(_ARCHITECTURES).index(machine)
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUALS, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for calls, error in (
        (REFUSED.values(), errno.EPERM),
        (UNKNOWN.values(), errno.ENOSYS),
        ([NO_SOCKET], errno.EAFNOSUPPORT),
    ):
        numbers = (call[column] for call in calls)
        steps += [step for number in numbers if number is not None for step in _refused(number, error)]
    for rule in _rules(own):
        if (number := rule.call[column]) is not None:
            steps += _refused_for(number, rule)
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _refused(number: int, error: int) -> list[Step]:
    return [(_EQUALS, 0, 1, number), (_RETURN, 0, 0, _ERROR | error)]


def _refused_for(number: int, rule: Rule) -> list[Step]:
    return [
        (_EQUALS, 0, 5, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * rule.argument),
        (_AND, 0, 0, rule.mask),
        (_EQUALS, 1 if rule.unless else 0, 0 if rule.unless else 1, rule.value),
        (_RETURN, 0, 0, _ERROR | errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
    ]
