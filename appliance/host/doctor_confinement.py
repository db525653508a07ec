"""What `doctor` says of the walls around the box: which of the unit's promises hold for what serves now."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from appliance.engine.machine import group_paths
from appliance.engine.no_network import can_leave
from appliance.host.finding import GOOD, WARN, Finding
from appliance.host.switching import is_served
from appliance.host.unit import UNIT_FILE, options_of
from appliance.store.layout import StateLayout
from bundler.confine import check_isolation

_ENABLED = UNIT_FILE.parent / "multi-user.target.wants" / UNIT_FILE.name
_CONTAINER = Path("/run/.containerenv")
_MODULES = (b"appliance.host.serving", b"appliance.engine.child")
_UNIT = "lifeboat-appliance unit > {file}; systemctl daemon-reload; systemctl enable --now {name}"


def confinement(layout: StateLayout) -> Iterator[Finding]:
    """Examines the unit, the processes that serve, and the children that parse foreign bytes."""
    yield _service(layout)
    if is_served(layout):
        yield _walls(layout)
    isolation = check_isolation()
    if isolation.missing:
        hint = "see docs/intake.md for what the kernel must grant"
        yield Finding("confined children", WARN, f"a parser of foreign bytes {'; '.join(isolation.gaps)}", hint)
    else:
        fact = "a parser of foreign bytes has no network, no keys, no files but its own, no other process, and limits"
        yield Finding("confined children", GOOD, fact)
    if can_leave():
        yield Finding("engines", GOOD, "the processes of models and of trials reach no network")
    else:
        fact = f"the processes of models could reach the network: no filter is known for {os.uname().machine}"
        yield Finding("engines", WARN, fact, "a firewall that lets this user reach the providers alone")


def _service(layout: StateLayout) -> Finding:
    """Without a service nothing starts the box after a power cut."""
    hint = _UNIT.format(file=UNIT_FILE, name=UNIT_FILE.stem)
    if _CONTAINER.exists() or "container" in os.environ:
        return Finding("service", GOOD, "in a container: whoever runs it starts it again")
    if not UNIT_FILE.exists():
        return Finding("service", WARN, f"no {UNIT_FILE}: nothing starts this box after a power cut", hint)
    state = options_of(UNIT_FILE.read_text(encoding="utf-8")).get("state", "")
    if Path(state) != layout.root:
        return Finding("service", WARN, f"{UNIT_FILE} serves {state or 'another state'}, not {layout.root}", hint)
    if not _ENABLED.exists():
        fact = f"{UNIT_FILE} is not enabled: it does not start after a power cut"
        return Finding("service", WARN, fact, f"systemctl enable --now {UNIT_FILE.stem}")
    return Finding("service", GOOD, f"{UNIT_FILE} is there and enabled")


def _walls(layout: StateLayout) -> Finding:
    processes = list(serving_processes(layout))
    if not processes:
        return Finding("sandbox", WARN, "the serving processes cannot be seen from here", "run as root")
    lacking: dict[str, None] = {}
    for process in processes:
        lacking |= dict.fromkeys(missing_walls(_status(process), _text(process / "limits"), _swap_limit(process)))
    if lacking:
        hint = "serve from the unit that `lifeboat-appliance unit` prints"
        return Finding("sandbox", WARN, f"does not hold for what serves now: {', '.join(lacking)}", hint)
    held = "no rights to gain, no capabilities, filtered system calls, no core dumps, no swap, not root"
    return Finding("sandbox", GOOD, f"holds for {len(processes)} processes: {held}")


def missing_walls(status: Mapping[str, str], limits: str, swap_limit: str) -> Iterator[str]:
    """Yields what does not hold for a process. Pure.

    Args:
        status: /proc/PID/status by field (proc(5)).
        limits: /proc/PID/limits.
        swap_limit: `memory.swap.max` of its control group, "" where there is none to read.
    """
    if status.get("NoNewPrivs") != "1":
        yield "no new rights"
    if status.get("Seccomp") != "2":
        yield "filtered system calls"
    if int(status.get("CapEff", "0"), 16):
        yield "no capabilities"
    if status.get("Uid", "").split()[:1] == ["0"]:
        yield "a user other than root"
    if not re.search(r"^Max core file size\s+0\s", limits, re.MULTILINE):
        yield "no core dumps"
    if swap_limit not in ("", "0"):
        yield "no swap"


def serving_processes(layout: StateLayout) -> Iterator[Path]:
    """Yields /proc/PID of the supervisor that holds this state's lock, and of what it has started."""
    inode = layout.serving.stat().st_ino
    holders = lock_holders(_text(Path("/proc/locks")), inode)
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    for number in sorted(holders & parents.keys()):
        yield Path("/proc", str(number))
        yield from (Path("/proc", str(child)) for child in _below(number, parents) if _is_ours(child))


def lock_holders(locks: str, inode: int) -> set[int]:
    """Returns the processes that hold a lock on a file: /proc/locks names its device and inode. Pure."""
    rows = (line.split() for line in locks.splitlines())
    # "1: FLOCK ADVISORY WRITE 1234 fe:00:131083 0 EOF"; the device is another one on stacked file systems.
    return {int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5].split(":")[-1] == str(inode)}


def _below(number: int, parents: Mapping[int, int]) -> Iterable[int]:
    for child, parent in parents.items():
        if parent == number:
            yield child
            yield from _below(child, parents)


def _is_ours(number: int) -> bool:
    try:
        command = Path("/proc", str(number), "cmdline").read_bytes()
    except OSError:
        return False
    return any(module in command for module in _MODULES)


def _parent(process: Path) -> int:
    return int(_status(process).get("PPid", "0"))


def _status(process: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in _text(process / "status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _swap_limit(process: Path) -> str:
    own = next((path for controllers, path in group_paths(_text(process / "cgroup")) if not controllers), None)
    return "" if own is None else _text(Path("/sys/fs/cgroup") / own.lstrip("/") / "memory.swap.max").strip()


def _text(path: Path) -> str:
    """Returns a small file of the kernel, "" where there is none to read any more."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
