"""What a machine can give a model: memory that is really free, GPUs, cores. Pure: texts in.

Sources: proc(5), the kernel's cgroup-v1/memory.rst, cgroup-v2.rst and sysfs-devices-system-cpu, nvidia-smi(1).
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MIB = 2**20
_UNLIMITED = 2**60  # cgroup v1 says "none" by a number near 2**63


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi numbers it, and its memory in bytes."""

    index: int
    uuid: str
    name: str
    driver: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Machine:
    """What there is.

    Attributes:
        free_bytes: Memory of the system that can be taken without swapping or being killed.
        limit: What sets that: "the machine", "the control group" or "the process's limit".
        gpus: Those that a child would see, where its llama.cpp can use them; else empty.
        gpu_note: Why there are none, or "".
        cores: Physical cores that may be used.
        threads: Logical processors that may be used.
        quota_cpus: Processor time that the control group allows, in processors; None where it sets no limit.
    """

    free_bytes: int
    limit: str
    gpus: tuple[Gpu, ...]
    gpu_note: str
    cores: int
    threads: int
    quota_cpus: float | None


def least_memory(available: int, group: int | None, process: int | None) -> tuple[int, str]:
    """Returns the memory that is free, in bytes, and what sets it."""
    limits = [(available, "the machine")]
    if group is not None:
        limits.append((group, "the control group"))
    if process is not None:
        limits.append((process, "the process's limit"))
    return min((max(0, free), name) for free, name in limits)


def available_bytes(meminfo: str) -> int:
    """Returns MemAvailable of /proc/meminfo.

    Raises:
        ValueError: It is not there.
    """
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemAvailable")


def group_free_bytes(limit: str, usage: str, statistics: str) -> int | None:
    """Returns what a control group may still take, or None without a limit.

    Args:
        limit: `memory.max`, or `memory.limit_in_bytes` of version 1.
        usage: `memory.current`, or `memory.usage_in_bytes`.
        statistics: `memory.stat`: file pages not in use are given back when memory is wanted.
    """
    most = group_limit_bytes(limit)
    if most is None:
        return None
    numbers = dict(line.split()[:2] for line in statistics.splitlines() if len(line.split()) > 1)
    pages = int(numbers.get("total_inactive_file", numbers.get("inactive_file", "0")))
    return max(0, most - max(0, int(usage) - pages))


def group_limit_bytes(text: str | None) -> int | None:
    """Returns the limit that `memory.max`, or `memory.limit_in_bytes` of version 1, sets; None where there is none."""
    words = (text or "").strip()
    return int(words) if words.isdecimal() and int(words) < _UNLIMITED else None


def group_folders(cgroup: str, controller: str) -> tuple[PurePosixPath, ...]:
    """Returns where the limits of a controller lie, below /sys/fs/cgroup: of the own groups and of all above them.

    Each of them sets a limit. Version 2 has one tree, which may be mounted as `unified` beside those of version 1; in a
    container the path of the host may not be there, and then the root of the tree is the container's own group.

    Args:
        cgroup: /proc/self/cgroup.
        controller: Such as "memory".
    """
    found: dict[PurePosixPath, None] = {}
    for controllers, path in group_paths(cgroup):
        if controllers and controller not in controllers.split(","):
            continue
        own = PurePosixPath(path.lstrip("/"))
        for root in (controller,) if controllers else ("", "unified"):
            found |= dict.fromkeys(PurePosixPath(root) / part for part in (own, *own.parents))
    return tuple(found)


def group_paths(cgroup: str) -> tuple[tuple[str, str], ...]:
    """Returns (controllers, path) for each line of /proc/self/cgroup; "" names the one tree of version 2."""
    lines = (line.split(":", 2) for line in cgroup.splitlines())
    return tuple((parts[1], parts[2]) for parts in lines if len(parts) == 3)


def quota_cpus(quota: str, period: str = "") -> float | None:
    """Returns the processors that `cpu.max`, or `cpu.cfs_quota_us` with `cpu.cfs_period_us`, allow; None: no limit."""
    words = [*quota.split(), *period.split()]
    if len(words) < 2 or words[0] in ("max", "-1") or int(words[1]) <= 0:
        return None
    return int(words[0]) / int(words[1])


def cpu_list(text: str) -> frozenset[int]:
    """Returns the numbers of a list such as `0-3,8` (sysfs)."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def core_count(allowed: Collection[int], siblings: Iterable[str]) -> int:
    """Returns on how many physical cores the allowed processors lie; `siblings`: `thread_siblings_list` of each."""
    shared = {cpu_list(text) for text in siblings}
    known = frozenset[int]().union(*shared)
    alone = sum(number not in known for number in allowed)
    return max(1, alone + sum(bool(group & set(allowed)) for group in shared))


def threads_for(machine: Machine) -> int:
    """Returns the threads of computation: one a physical core, within the processor time that may be used.

    Measured (docs/engine.md): one thread more than there are cores costs 40 to 75 % of the speed of decoding, since all
    wait for each other many times a layer. Siblings on one core share the units that the products need (not measured).
    """
    whole = machine.cores if machine.quota_cpus is None else min(machine.cores, int(machine.quota_cpus))
    return max(1, whole)


GPU_FIELDS = ("index", "uuid", "name", "driver_version", "memory.free", "memory.total")


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """Reads nvidia-smi's answer for GPU_FIELDS as csv,noheader,nounits; a GPU without figures of memory is left out."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        cells = [cell.strip() for cell in row]
        if len(cells) == len(GPU_FIELDS) and all(cells[place].isdecimal() for place in (0, 4, 5)):
            uuid, name, driver = cells[1:4]
            found.append(Gpu(int(cells[0]), uuid, name, driver, int(cells[4]) * MIB, int(cells[5]) * MIB))
    return tuple(found)


def visible_gpus(gpus: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """Returns the GPUs that CUDA_VISIBLE_DEVICES shows, in its order; as in CUDA, an unknown name ends the list."""
    if visible is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for word in (part.strip() for part in visible.split(",")):
        gpu = next((one for one in gpus if word and (str(one.index) == word or one.uuid.startswith(word))), None)
        if gpu is None:
            break
        found.append(gpu)
    return tuple(found)
