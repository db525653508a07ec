"""`doctor`: what this machine is, and what of Lifeboat's promises holds on it. Each finding has a way out."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import SLOT, SLOT_WARNING, Seal
from appliance.store.trust import TrustStore
from bundler.files import DISK
from bundler.format.errors import LifeboatError

GOOD, WARN, BAD = "good", "warn", "bad"
_LEAST_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One check: its subject, `good`, `warn` or `bad`, the fact, and the way out where one is needed."""

    subject: str
    state: str
    fact: str
    hint: str = ""


def examine(root: Path, now: datetime) -> list[Finding]:
    """Runs every check; none changes anything."""
    layout = StateLayout(root)
    checks = (_embedding_runtime, _llm_runtime, _gpu, _memory, _swap, _core_dumps)
    findings = [finding for check in checks for finding in check()]
    return [*findings, *_disk(root), *_state(layout, now)]


def _embedding_runtime() -> Iterator[Finding]:
    """Both onnxruntime distributions write the same folder: with two installed, nobody knows which one runs."""
    names = ("onnxruntime", "onnxruntime-gpu")
    installed = [name for name in names if _version(name) is not None]
    if len(installed) != 1:
        hint = 'install "lifeboat-ai[appliance,cpu]" or "[appliance,gpu]" into a fresh environment'
        yield Finding("embedding runtime", BAD, f"{len(installed)} onnxruntime distributions installed", hint)
        return
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    expected = "CUDAExecutionProvider" if installed == ["onnxruntime-gpu"] else "CPUExecutionProvider"
    state = GOOD if expected in providers else BAD
    yield Finding("embedding runtime", state, f"{installed[0]} {_version(installed[0])}, {', '.join(providers)}")


def _llm_runtime() -> Iterator[Finding]:
    version = _version("llama-cpp-python")
    if version is None:
        hint = "pip install llama-cpp-python==0.3.36 (builds from source, needs a C++ compiler)"
        yield Finding("chat runtime", WARN, "llama-cpp-python is not installed: no local model answers", hint)
    else:
        yield Finding("chat runtime", GOOD, f"llama-cpp-python {version}")


def _gpu() -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield Finding("GPU", GOOD, "none (no nvidia-smi): models run on the CPU")
        return
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    if found.returncode:
        yield Finding("GPU", BAD, f"nvidia-smi fails: {found.stdout.strip()[:200]}", "repair the driver")
    else:
        yield Finding("GPU", GOOD, found.stdout.strip().replace("\n", "; "))


def _memory() -> Iterator[Finding]:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    free = int(facts["MemAvailable"].split()[0]) * 1024
    state = GOOD if free >= _LEAST_MEMORY_BYTES else WARN
    yield Finding("memory", state, f"{free / 2**30:.1f} GiB available", "" if state == GOOD else "stop other programs")


def _swap() -> Iterator[Finding]:
    devices = Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]
    if devices:
        hint = "swapoff -a, or swap on an encrypted device: model and prompts can reach it"
        yield Finding("swap", WARN, f"{len(devices)} swap devices are on", hint)
    else:
        yield Finding("swap", GOOD, "off")


def _core_dumps() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    if soft == 0 and not pattern.startswith("|"):
        yield Finding("core dumps", GOOD, "off")
    else:
        yield Finding(
            "core dumps", WARN, f"this shell allows them (pattern {pattern[:60]!r})", "`serve` turns its own off"
        )


def _disk(root: Path) -> Iterator[Finding]:
    place = root
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    state = GOOD if usage.free > 2**30 else WARN
    yield Finding(
        "disk", state, f"{usage.free / 1e9:.1f} GB free at {place}", "" if state == GOOD else "free some space"
    )
    if root.exists() and root.stat().st_mode & 0o077:
        yield Finding("state folder", BAD, f"{root} is open to other users", f"chmod 700 {root}")
    if root.exists() and root.stat().st_uid != os.getuid():
        yield Finding("state folder", WARN, f"{root} belongs to another user", "run as the service's user")


def _state(layout: StateLayout, now: datetime) -> Iterator[Finding]:
    seal = Seal(layout.keys)
    if not seal.enrolled:
        yield Finding("site", WARN, "not enrolled", "lifeboat-appliance install MEDIUM")
        return
    yield Finding("seal", WARN, f"{SLOT}: {SLOT_WARNING}", "put the state on an encrypted disk")
    try:
        secrets = seal.open()
        version = versions.read_current(layout, secrets)
        versions.open_version(layout, secrets, version).close()
    except LifeboatError as error:
        yield Finding("version", BAD, error.fact, error.hint or "install again from the medium")
        return
    tested = "" if version.model_tested else "; the local model was not tested at install"
    yield Finding("version", GOOD, f"{version.number}, bundle {version.bundle}, made {version.made}{tested}")
    yield from _clock(layout, now)


def _clock(layout: StateLayout, now: datetime) -> Iterator[Finding]:
    remembered = TrustStore(layout.trust, DISK).remembered()
    if remembered is None:
        return
    signed = datetime.fromisoformat(remembered.signed_time)
    signed = signed if signed.tzinfo else signed.replace(tzinfo=UTC)
    if now + timedelta(minutes=5) < signed:
        yield Finding(
            "clock", BAD, f"the clock says {now:%Y-%m-%d}, signed metadata was made {signed:%Y-%m-%d}", "set it"
        )
    else:
        yield Finding("clock", GOOD, f"{now:%Y-%m-%d %H:%M} UTC, after the newest signed time")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
