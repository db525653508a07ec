"""The child's side of `bundler.confine`: gives up what it does not need, then calls the parser.

Nothing foreign is read, and no parser imported, before `_give_up` has returned.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from bundler.confined_calls import refuse_calls
from bundler.confined_files import leave_files
from bundler.format import errors

FIRST_LINE_BYTES = 4096

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_pools: list[ThreadPoolExecutor] = []


def main(order_fd: int, answer_fd: int) -> None:
    """Runs one order; the answer is a line on the confinement and then a JSON object."""
    with os.fdopen(order_fd, "rb") as file:
        order = json.load(file)
    with os.fdopen(answer_fd, "wb") as answer:
        report = {"missing": _give_up(order)}
        answer.write(json.dumps(report).encode() + b"\n")
        answer.flush()
        answer.write(json.dumps(_outcome(order), allow_nan=False).encode())


def nothing(_request: Mapping[str, Any], _inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]) -> None:
    """Reads nothing: a target that only shows what the confinement is worth."""


def _outcome(order: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _call(order)}
    except errors.LifeboatError as error:
        return {"error": _described(error)}
    except MemoryError:
        return {"fault": f"reading it needs more than {order['limits']['memory_bytes']} bytes of memory"}
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes raise anything; the parent reports it by name
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return {"fault": _sayable(f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})")}


def _call(order: Mapping[str, Any]) -> Any:
    module, _, name = order["target"].partition(":")
    function = getattr(importlib.import_module(module), name)
    inputs = {name: os.fdopen(number, "rb") for name, number in order["inputs"].items()}
    outputs = {name: os.fdopen(number, "wb") for name, number in order["outputs"].items()}
    try:
        return function(order["request"], inputs, outputs)
    finally:
        for file in [*inputs.values(), *outputs.values()]:
            file.close()


def _described(error: errors.LifeboatError) -> dict[str, Any]:
    known = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    issues = map(_sayable, error.issues) if isinstance(error, errors.BadInputs) else ()
    return {
        "class": known.__name__,
        "fact": _sayable(error.fact),
        "hint": _sayable(error.hint),
        "issues": list(issues),
    }


def _sayable(text: str) -> str:
    """A foreign name may hold half of a surrogate pair: the parent would refuse the JSON, and the fact be lost."""
    return text.encode(errors="backslashreplace").decode()


def _give_up(order: Mapping[str, Any]) -> dict[str, str]:
    """Drops everything but the open files and the order's folders; returns the walls that are missing, and why."""
    _checked("prctl", _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    network = _leave_network()
    _checked("prctl", _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    files = leave_files(order["target"].partition(":")[0], order["folders"])
    calls = refuse_calls()
    _start_threads(order["limits"]["threads"])
    _take_limits(order)
    # The filter opens no socket, whatever namespace this is.
    missing = {"network": network if calls else "", "files": files, "calls": calls}
    return {wall: reason[: FIRST_LINE_BYTES // 8] for wall, reason in missing.items() if reason}


def _take_limits(order: Mapping[str, Any]) -> None:
    limits, files = order["limits"], len(order["inputs"]) + len(order["outputs"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, limits["memory_bytes"])
    _limit(resource.RLIMIT_FSIZE, limits["output_bytes"])
    _limit(resource.RLIMIT_NOFILE, limits["open_files"] + files)
    _limit(resource.RLIMIT_CPU, limits["cpu_s"])
    if not limits["starts_threads"]:
        # Of threads; processes are refused by the filter. The kernel exempts user 0 from this one (kernel/fork.c).
        _limit(resource.RLIMIT_NPROC, 0)
    # Python ignores SIGXFSZ, and a parser might swallow the OSError that it gets instead.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if order["folders"]:
        # SQLite sorts what is too much for memory in a file.
        os.environ["TMPDIR"] = order["folders"][0]


def pool() -> ThreadPoolExecutor:
    """Returns the threads that were started before starting any was forbidden; raises RuntimeError if there are none.

    They gave up the same as this one, since each took it over when it began.
    """
    if not _pools:
        raise RuntimeError("this child was given no threads")
    return _pools[0]


def _start_threads(count: int) -> None:
    if not count:
        return
    together = threading.Barrier(count + 1)
    _pools.append(ThreadPoolExecutor(count, thread_name_prefix="confined"))
    for _ in range(count):
        _pools[0].submit(together.wait)
    together.wait()


def _leave_network() -> str:
    """Enters a network namespace of its own: first without privilege, then as root in a container may."""
    before = _network()
    for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET):
        if _LIBC.unshare(flags) == 0 and _network() != before:
            return ""
    return f"unshare: {os.strerror(ctypes.get_errno())}"


def _network() -> int:
    return Path("/proc/self/ns/net").stat().st_ino


def _drop_capabilities() -> None:
    """A fresh user namespace grants every capability inside it, which opens much of the kernel to an exploit."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked("capset", _LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def _limit(which: int, most: int) -> None:
    _, hard = resource.getrlimit(which)
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    # A process over the hard processor limit gets SIGKILL, which says less than SIGXCPU: one second between them.
    ceiling = allowed + 1 if which == resource.RLIMIT_CPU and allowed == most else allowed
    resource.setrlimit(which, (allowed, ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard)))


def _checked(call: str, result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
