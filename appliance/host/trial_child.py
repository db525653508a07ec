"""The process of a trial: loads the knowledge of one bundle under a limit of memory, and runs its self-test."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from appliance.engine.memory import first_to_go
from appliance.engine.no_network import leave_network
from appliance.host.trial import lacks_memory
from bundler.format.bundle import Bundle, open_bundle
from bundler.format.errors import BadBundle, LifeboatError
from bundler.format.manifest import decode_descriptor

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG = 4, 1
# Stacks of threads and the allocator's pools count as data and are hardly touched; what is touched, the parent watches.
_UNUSED_BYTES, _UNUSED_BYTES_A_CPU = 64 * 2**20, 16 * 2**20


def main() -> None:
    """`python -m appliance.host.trial_child`: the order on stdin, what was found on stdout, as JSON."""
    leave_network()
    # Not sooner: numpy and onnxruntime start threads, which keep the network, and their code is no part of the limit.
    import_module("appliance.host.box")
    order = json.loads(sys.stdin.buffer.read())
    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a line that a library prints is no part of the answer
    _restrict(order)
    try:
        told = _tried(order)
    except LifeboatError as error:
        told = {"failed": error.fact, "damaged": isinstance(error, BadBundle)}
    except MemoryError:
        told = {"failed": "its knowledge does not fit into the memory that is free", "short": True}
    except Exception as error:  # onnxruntime and tokenizers have no class for a lack of memory
        if not lacks_memory(str(error)):
            raise
        told = {"failed": f"its knowledge does not fit into the memory that is free ({error})", "short": True}
    with os.fdopen(answer, "w", encoding="utf-8") as out:
        out.write(json.dumps(told))


def _restrict(order: dict[str, Any]) -> None:
    """No core dumps, no ptrace, no life after the parent; an end by itself, and by the kernel before all others."""
    first_to_go()  # while the file is still its own
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != order["parent"]:  # it died before the signal was armed
        sys.exit(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(order["limit_s"]))
    unused_bytes = _UNUSED_BYTES + _UNUSED_BYTES_A_CPU * (os.cpu_count() or 1)
    limit_bytes = _bytes_of("VmData") + int(order["room_bytes"]) + unused_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = limit_bytes if hard == resource.RLIM_INFINITY else min(hard, limit_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _tried(order: dict[str, Any]) -> dict[str, Any]:
    before_bytes = _bytes_of("VmRSS")
    descriptor = decode_descriptor(order["descriptor"].encode())
    with open_bundle(Path(order["repository"]), descriptor, order["identities"]) as bundle:
        lines, failures, passed = _selftest(bundle)
    held_bytes = max(0, _bytes_of("VmHWM") - before_bytes)
    return {"lines": lines, "failures": failures, "passed": passed, "held_bytes": held_bytes}


def _selftest(bundle: Bundle) -> tuple[list[str], list[str], bool]:
    from appliance.host.box import load_knowledge
    from appliance.host.pace import pace, pace_line
    from bundler.knowledge import same_answers, selftest

    spec = bundle.index.service.selftest
    service = bundle.index.service
    knowledge, _ = load_knowledge(bundle)
    if knowledge is None:
        return [], [], True
    wrong = same_answers.check_snapshots(service, bundle.read, knowledge)
    told = [line for line in (same_answers.held_line(service),) if line and not wrong]
    if spec is None or wrong:
        return [*told, *(f"vector store {line}  FAILED" for line in wrong)], [], not wrong
    cases = selftest.read_cases(bundle.read(spec.asset))
    report = selftest.run(cases, knowledge, spec)
    found = pace(cases, knowledge, time.perf_counter)
    quick = all(taken <= spec.search_ms for taken in found.values())
    counts = report.counts()
    lines = [*told, *counts, *([pace_line(found, spec.search_ms)] if found else [])]
    return lines, report.lines()[len(counts) :], report.passed and quick


def _bytes_of(name: str) -> int:
    """Returns a size of this process (proc(5), status), in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
