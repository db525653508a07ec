"""What `doctor` says of the machine itself: GPU and driver, memory, core dumps, and room on the disk."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.engine import probe
from appliance.host.doctor_runtimes import cuda_builds
from appliance.host.drivers import problems
from appliance.host.finding import BAD, GOOD, WARN, Finding
from appliance.store.layout import StateLayout
from appliance.store.space import check_space
from bundler.format.errors import NoSpace
from bundler.terminal import size

_LEAST_MEMORY_BYTES = 2 * 2**30
_LEAST_DISK_BYTES = 2**30


def hardware() -> Iterator[Finding]:
    """Examines what does not depend on a state."""
    yield from _gpu()
    yield from _memory()
    yield from _core_dumps()


def _gpu() -> Iterator[Finding]:
    gpus, note = probe.query_gpus()
    told = "; ".join(
        f"{gpu.name}, {gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free, driver {gpu.driver}"
        for gpu in gpus
    )
    if not gpus and shutil.which("nvidia-smi") is None:
        yield Finding("GPU", GOOD, "none (no nvidia-smi): models run on the CPU")
        return
    if not gpus:
        yield Finding("GPU", BAD, note, "repair the driver")
        return
    if unused := probe.usable_gpus(gpus)[1]:
        yield Finding("GPU", WARN, f"{told}; not used: {unused}", "install the environment of the GPU")
    else:
        yield Finding("GPU", GOOD, told)
    yield _driver(gpus[0].driver, cuda_builds())


def _driver(driver: str, builds: dict[str, int]) -> Finding:
    told = ", ".join(f"{name} for CUDA {major}" for name, major in builds.items())
    if found := list(problems(driver, builds)):
        hint = "install a newer driver, or the environment that fits this one"
        return Finding("driver", BAD, f"{driver} is too old: {'; '.join(found)}", hint)
    if not builds:
        return Finding("driver", GOOD, f"{driver}; nothing installed here is built for CUDA")
    return Finding("driver", GOOD, f"{driver} is new enough ({told})")


def _memory() -> Iterator[Finding]:
    machine = probe.look()
    free = machine.free_bytes
    state = GOOD if free >= _LEAST_MEMORY_BYTES else WARN
    yield Finding(
        "memory",
        state,
        f"{free / 2**30:.1f} GiB available, limited by {machine.limit}",
        "" if state == GOOD else "stop other programs",
    )


def _core_dumps() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    if soft == 0 and not pattern.startswith("|"):
        yield Finding("core dumps", GOOD, "off")
    else:
        yield Finding(
            "core dumps", WARN, f"this shell allows them (pattern {pattern[:60]!r})", "`serve` turns its own off"
        )


def disk(root: Path) -> Iterator[Finding]:
    """Examines the folder of the state, or where it would be made."""
    place = root
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    state = GOOD if usage.free > _LEAST_DISK_BYTES else WARN
    yield Finding("disk", state, f"{size(usage.free)} free at {place}", "" if state == GOOD else "free some space")
    if root.exists() and root.stat().st_mode & 0o077:
        yield Finding("state folder", BAD, f"{root} is open to other users", f"chmod 700 {root}")
    if root.exists() and root.stat().st_uid != os.getuid():
        yield Finding("state folder", WARN, f"{root} belongs to another user", "run as the service's user")


def room_for_next(layout: StateLayout, lengths: Sequence[int]) -> Finding:
    """Says whether another bundle of files of these lengths fits as an install counts, sharing nothing with others."""
    try:
        check_space(layout.repository, lengths)
    except NoSpace as refusal:
        return Finding("next bundle", WARN, refusal.fact, "free some space, or move the state to a larger disk")
    return Finding("next bundle", GOOD, f"there is room for another one of {size(sum(lengths))}")
