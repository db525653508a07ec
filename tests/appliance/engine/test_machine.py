"""What the kernel's and nvidia-smi's words mean: memory that is free, cores that count, GPUs that are seen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from appliance.engine.machine import (
    Gpu,
    Machine,
    available_bytes,
    core_count,
    cpu_list,
    group_free_bytes,
    group_paths,
    least_memory,
    quota_cpus,
    read_gpus,
    threads_for,
    visible_gpus,
)
from appliance.engine.probe import engines_bytes, look, resident_bytes

MIB, GIB = 2**20, 2**30
TWO_GPUS = """\
0, GPU-8f2c, NVIDIA RTX A2000 12GB, 570.86.10, 11873, 12282
1, GPU-11aa, NVIDIA L4, 570.86.10, 4021, 23034
"""
ODD_GPUS = """\
0, GPU-aa, NVIDIA GB10, 580.1, [N/A], [N/A]
1, GPU-bb, NVIDIA A100, MIG, 580.1, 10, 20
Unable to determine the device handle for GPU0000:65:00.0: Unknown Error
2, GPU-cc, "NVIDIA T4, rev 2", 580.1, 15000, 15360
"""


def test_the_memory_that_is_free_is_the_least_of_all() -> None:
    """Machine, control group and process limit each can be the one that counts; none goes below nothing."""
    assert least_memory(8 * GIB, None, None) == (8 * GIB, "the machine")
    assert least_memory(8 * GIB, 2 * GIB, None) == (2 * GIB, "the control group")
    assert least_memory(8 * GIB, 2 * GIB, GIB) == (GIB, "the process's limit")
    assert least_memory(8 * GIB, -5, None) == (0, "the control group")


def test_meminfo() -> None:
    """MemAvailable counts, not MemFree; a kernel without it is refused."""
    assert available_bytes("MemTotal: 100 kB\nMemFree: 5 kB\nMemAvailable:   42 kB\n") == 42 * 1024
    with pytest.raises(ValueError, match="MemAvailable"):
        available_bytes("MemTotal: 100 kB\n")


@pytest.mark.parametrize(
    ("limit", "usage", "statistics", "free"),
    [
        ("max\n", "1000\n", "", None),
        ("9223372036854771712\n", "1000\n", "", None),
        (f"{4 * GIB}\n", f"{GIB}\n", "anon 5\n", 3 * GIB),
        (f"{4 * GIB}\n", f"{3 * GIB}\n", f"anon 5\ninactive_file {GIB}\n", 2 * GIB),
        (f"{4 * GIB}\n", f"{3 * GIB}\n", f"inactive_file 7\ntotal_inactive_file {2 * GIB}\n", 3 * GIB),
        (f"{GIB}\n", f"{2 * GIB}\n", "", 0),
    ],
    ids=["v2-none", "v1-none", "v2", "v2-cache", "v1-cache", "over"],
)
def test_a_control_group(limit: str, usage: str, statistics: str, free: int | None) -> None:
    """Both versions, with the file pages that the kernel gives back."""
    assert group_free_bytes(limit, usage, statistics) == free


def test_the_paths_of_control_groups() -> None:
    """Version 2 has one line without controllers, version 1 one for each; a broken line is nothing."""
    text = "12:memory:/docker/ab\n5:cpu,cpuacct:/x:y\n0::/system.slice/lifeboat.service\nrubbish\n"
    assert group_paths(text) == (
        ("memory", "/docker/ab"), ("cpu,cpuacct", "/x:y"), ("", "/system.slice/lifeboat.service"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("quota", "period", "cpus"),
    [
        ("max 100000", "", None),
        ("150000 100000", "", 1.5),
        ("-1", "100000", None),
        ("50000", "100000", 0.5),
        ("", "", None),
    ],
)
def test_processor_quotas(quota: str, period: str, cpus: float | None) -> None:
    """`cpu.max` of version 2 and the two files of version 1."""
    assert quota_cpus(quota, period) == cpus


@pytest.mark.parametrize(
    ("allowed", "siblings", "cores"),
    [
        (range(8), ["0,4", "1,5", "2,6", "3,7"], 4),
        (range(8), ["0-1", "2-3", "4-5", "6-7"], 4),
        ({0, 4}, ["0,4", "1,5"], 1),
        ({0, 1, 2}, [], 3),
        (range(2), ["0", "1"], 2),
        (set(), [], 1),
    ],
    ids=["far-siblings", "near-siblings", "affinity", "no-topology", "no-siblings", "nothing"],
)
def test_cores_are_not_siblings(allowed: set[int], siblings: list[str], cores: int) -> None:
    """Two processors on one core count once, and only what may be used counts."""
    assert core_count(allowed, siblings) == cores


def test_lists_of_processors() -> None:
    """As sysfs writes them."""
    assert cpu_list("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}
    assert cpu_list("") == frozenset()


@pytest.mark.parametrize(
    ("cores", "quota", "threads"), [(4, None, 4), (4, 2.9, 2), (4, 0.5, 1), (1, None, 1), (2, 8.0, 2)]
)
def test_threads(cores: int, quota: float | None, threads: int) -> None:
    """One a core, never more than the processor time allows, at least one."""
    assert threads_for(Machine(0, "the machine", (), "", cores, 2 * cores, quota)) == threads


def test_gpus_as_nvidia_smi_tells_them() -> None:
    """Memory in bytes, names with commas, and what has no memory of its own left out."""
    one, two = read_gpus(TWO_GPUS)
    assert one == Gpu(0, "GPU-8f2c", "NVIDIA RTX A2000 12GB", "570.86.10", 11873 * MIB, 12282 * MIB)
    assert two.free_bytes == 4021 * MIB
    assert [(gpu.index, gpu.name) for gpu in read_gpus(ODD_GPUS)] == [(2, "NVIDIA T4, rev 2")]
    assert read_gpus("") == ()


@pytest.mark.parametrize(
    ("visible", "indices"),
    [(None, [0, 1]), ("1,0", [1, 0]), ("GPU-11", [1]), ("0,7,1", [0]), ("", []), ("-1", []), ("NoDevFiles", [])],
)
def test_only_visible_gpus_count(visible: str | None, indices: list[int]) -> None:
    """CUDA_VISIBLE_DEVICES by number and by id, in its order; what follows a name that is none is hidden."""
    assert [gpu.index for gpu in visible_gpus(read_gpus(TWO_GPUS), visible)] == indices


def test_this_machine() -> None:
    """The real files of this machine give memory and cores that make sense, and this process holds some memory."""
    found = look()
    assert found.free_bytes > 64 * MIB
    assert 1 <= found.cores <= found.threads <= (os.cpu_count() or 1)
    assert resident_bytes(os.getpid()) > 5 * MIB
    assert resident_bytes(2**22 + 1) == 0
    assert engines_bytes() >= 0


SHARING = """
import mmap, os, sys
memory = os.memfd_create("shared")
os.truncate(memory, 64 * 2**20)
shared = mmap.mmap(memory, 64 * 2**20)
shared.write(b"x" * len(shared))
own = b"y" * (16 * 2**20)
print(flush=True)
sys.stdin.read()
"""


def test_shared_memory_is_nobodys_own() -> None:
    """What a process holds is told without the pages that it shares, such as those of the model's transfer."""
    with subprocess.Popen([sys.executable, "-c", SHARING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 16 * MIB < resident_bytes(process.pid) < 64 * MIB
        process.communicate()
