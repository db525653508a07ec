"""`doctor`: what this machine is, and what of Lifeboat's promises holds on it. Each finding has a way out."""

from __future__ import annotations

import importlib.metadata
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.engine import probe
from appliance.engine.fit import DoesNotFit, Wanted
from appliance.engine.fitting import Room, read_facts
from appliance.engine.machine import Machine
from appliance.engine.need import Q8
from appliance.engine.reading import ReadAt
from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import SLOT, SLOT_WARNING, Seal
from appliance.store.trust import TrustStore
from bundler.files import DISK
from bundler.format.errors import LifeboatError
from bundler.format.service import Service

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
    gpus, note = probe.query_gpus()
    told = "; ".join(
        f"{gpu.name}, {gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free, driver {gpu.driver}"
        for gpu in gpus
    )
    if not gpus and shutil.which("nvidia-smi") is None:
        yield Finding("GPU", GOOD, "none (no nvidia-smi): models run on the CPU")
    elif not gpus:
        yield Finding("GPU", BAD, note, "repair the driver")
    elif unused := probe.usable_gpus(gpus)[1]:
        yield Finding("GPU", WARN, f"{told}; not used: {unused}", "install the environment of the GPU")
    else:
        yield Finding("GPU", GOOD, told)


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
        bundle = versions.open_version(layout, secrets, version)
    except LifeboatError as error:
        yield Finding("version", BAD, error.fact, error.hint or "install again from the medium")
        yield Finding(
            "models", WARN, "not examined: what they need of memory lies encrypted in the state", "see version"
        )
        return
    proof = current.proof_of(layout, version.number)
    said = version.model_tested if proof is None else proof.tested
    tested = "" if said else "; the local model was not tested at install"
    yield Finding("version", GOOD, f"{version.number}, bundle {version.bundle}, made {version.made}{tested}")
    with bundle:
        yield from examine_models(bundle.index.service, bundle.reader, probe.look(), probe.engines_bytes())
    yield from _clock(layout, now)


def examine_models(
    service: Service, reader: Callable[[str], ReadAt], machine: Machine, running_bytes: int
) -> Iterator[Finding]:
    """Tells how each model of a version would run on this machine, one beside the other.

    Args:
        service: The version's.
        reader: Opens an asset by its path.
        machine: What is free.
        running_bytes: What engines of this box hold already, which a start of theirs would have again.
    """
    room = Room()
    whole = replace(machine, free_bytes=machine.free_bytes + running_bytes)
    for spec in service.models:
        subject = f"model {spec.name}"
        try:
            found = room.take(spec.name, read_facts(reader(spec.asset)), whole, Wanted.of(spec))
        except DoesNotFit as refusal:
            yield Finding(subject, BAD, refusal.fact, refusal.hint)
        except LifeboatError as error:
            yield Finding(subject, BAD, error.fact, error.hint or "install again from the medium")
        else:
            short = found.plan.context_tokens < spec.context_tokens or found.plan.kv_type == Q8
            hint = "more free memory lets it run as the profile asks" if short else ""
            yield Finding(subject, WARN if short else GOOD, " ".join(found.reasons), hint)


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
