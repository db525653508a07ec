"""Looks at this machine: /proc, /sys, the control group, nvidia-smi, and whether llama.cpp was built for GPUs."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from appliance.engine.machine import (
    GPU_FIELDS,
    MIB,
    Gpu,
    Machine,
    available_bytes,
    core_count,
    group_folders,
    group_free_bytes,
    least_memory,
    quota_cpus,
    read_gpus,
    visible_gpus,
)

_GROUPS, _CPUS = Path("/sys/fs/cgroup"), Path("/sys/devices/system/cpu")
_TOOL_S = 20
_ENGINE = "\0appliance.engine.child\0"
# A child maps 600 MiB more than it is said to need (measured: libraries, stacks); what counts as data stays below it.
_MAPPED_BYTES, _UNUSED_BYTES = 768 * MIB, 192 * MIB


def look() -> Machine:
    """Returns what this machine has now; takes a moment where there are GPUs."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    free, limit = least_memory(available_bytes(meminfo), _group_free(), _process_free())
    gpus, note = query_gpus()
    if gpus:
        gpus, note = usable_gpus(gpus)
    allowed = os.sched_getaffinity(0)
    siblings = [text for number in allowed if (text := _text(_CPUS / f"cpu{number}/topology/thread_siblings_list"))]
    return Machine(free, limit, gpus, note, core_count(allowed, siblings), len(allowed), _quota())


def resident_bytes(process: int) -> int:
    """Returns the memory that a process has of its own, 0 where it is gone (proc(5), statm).

    Pages of files and of shared memory are not its own: the buffer through which it reads the model is the parent's.
    """
    words = (_text(Path(f"/proc/{process}/statm")) or "0 0 0").split()
    return max(0, int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")


def query_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Returns the GPUs that nvidia-smi tells of; or none and why."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), "there is no nvidia-smi"
    query = [tool, f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi does not answer within {_TOOL_S} s"
    if done.returncode:
        return (), f"nvidia-smi fails: {(done.stdout or done.stderr).strip()[:200]}"
    found = read_gpus(done.stdout)
    return found, "" if found else "nvidia-smi tells of no GPU with memory of its own"


def usable_gpus(gpus: Sequence[Gpu]) -> tuple[tuple[Gpu, ...], str]:
    """Returns the GPUs that an engine would use; or none and why."""
    seen = visible_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if gpus and not seen:
        return (), "CUDA_VISIBLE_DEVICES hides all GPUs"
    if seen and not _built_for_gpus():
        return (), f"llama-cpp-python is built for the CPU only; {seen[0].name} is not used"
    return seen, ""


def engines_bytes() -> int:
    """Returns the memory that engines on this machine hold, of whatever version of the box."""
    found = (path for path in Path("/proc").iterdir() if path.name.isdigit())
    return sum(resident_bytes(int(path.name)) for path in found if _ENGINE in (_text(path / "cmdline") or ""))


def _built_for_gpus() -> bool:
    """Whether llama.cpp's CUDA backend lies beside it: asked of the files, since only the child loads it."""
    spec = find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return False
    return any(Path(spec.origin).parent.glob("lib/libggml-cuda*"))


def _process_free() -> int | None:
    """What a fresh child may take under the limits that it inherits (setrlimit(2))."""
    data, mapped = resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_AS)[0]
    limits = [data - _UNUSED_BYTES] if data != resource.RLIM_INFINITY else []
    return min([*limits, mapped - _MAPPED_BYTES] if mapped != resource.RLIM_INFINITY else limits, default=None)


def _group_free() -> int | None:
    found = [
        group_free_bytes(limit, usage, _text(folder / "memory.stat") or "")
        for folder in _folders("memory")
        for names in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
        if (limit := _text(folder / names[0])) and (usage := _text(folder / names[1]))
    ]
    return min((free for free in found if free is not None), default=None)


def _quota() -> float | None:
    found = []
    for folder in _folders("cpu"):
        found.append(quota_cpus(_text(folder / "cpu.max") or ""))
        found.append(quota_cpus(_text(folder / "cpu.cfs_quota_us") or "", _text(folder / "cpu.cfs_period_us") or ""))
    return min((quota for quota in found if quota is not None), default=None)


def _folders(controller: str) -> Iterator[Path]:
    cgroup = _text(Path("/proc/self/cgroup")) or ""
    return (_GROUPS / folder for folder in group_folders(cgroup, controller))


def _text(path: Path) -> str | None:
    """Returns a small file of the kernel, or None where there is none to read."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
