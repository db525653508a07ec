"""What the seal protects, in words, and what else of this machine could bring content to its disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.host.finding import BAD, GOOD, WARN, Finding
from appliance.host.unit import UNIT_FILE
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.slots import KEY_FILE, Slots
from appliance.store.systemd_creds import HOST, NAME, TPM2
from bundler.files import read_limited
from bundler.format.errors import FileMissing

_MACHINE = {
    (): "none",
    (KEY_FILE,): "a key file beside the state",
    (HOST,): "the host key of systemd-creds",
    (TPM2,): "the TPM2 of this machine",
    (HOST, TPM2): "the TPM2 of this machine with its host key",
}
_UNIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Protection:
    """What a seal protects.

    Attributes:
        protects: Whether a disk that is pulled tells nothing.
        alone: Whether the box answers after a power cut with nobody present.
        slots: A line for each slot.
        disk: What a pulled disk tells.
        power_cut: What a power cut means.
        at_service: What the service needs, or "".
    """

    protects: bool
    alone: bool
    slots: tuple[str, ...]
    disk: str
    power_cut: str
    at_service: str


def protection(slots: Slots) -> Protection:
    """Says in words what the slots of a seal mean. Pure."""
    machine = _MACHINE.get(slots.machine, "a credential of an unknown kind")
    lines = (
        f"machine: {machine}",
        f"recovery: {'the recovery card of the MSP opens it' if slots.recovery else 'none'}",
        f"passphrase: {'one opens it' if slots.passphrase else 'none'}",
    )
    alone = bool(slots.machine)
    service = f"the service opens it where its unit passes the credential {NAME}: lifeboat-appliance unit writes one"
    return Protection(
        protects=not alone or TPM2 in slots.machine,
        alone=alone,
        slots=lines,
        disk=_disk(slots.machine),
        power_cut=(
            f"after a power cut this box answers with nobody present: {machine} opens the seal"
            if alone
            else "after a power cut this box does NOT answer until somebody types the passphrase: serve --attended"
        ),
        at_service=service if alone and slots.machine != (KEY_FILE,) else "",
    )


def _disk(machine: tuple[str, ...]) -> str:
    if not machine:
        return "sealed by a passphrase: a pulled disk tells nothing to who does not know it"
    if TPM2 in machine:
        return "sealed by the TPM2: a pulled disk tells nothing; the whole machine, taken with its disk, still answers"
    if machine == (HOST,):
        return "sealed by the host key on the same disk: who takes the disk can read the content"
    if machine == (KEY_FILE,):
        return "sealed by a key file on the same disk: who takes the disk can read the content"
    return "sealed by a credential of an unknown kind: take it that who takes the disk can read the content"


def examine_seal(layout: StateLayout) -> Iterator[Finding]:
    """Tells of the slots; opens none."""
    slots = Seal(layout.keys).slots
    told = protection(slots)
    if told.protects:
        yield Finding("seal", GOOD, told.disk)
    else:
        hint = "lifeboat-appliance seal renew --machine tpm2, where there is a TPM2; else an encrypted disk"
        yield Finding("seal", WARN, told.disk, hint)
    if told.alone:
        yield Finding("power cut", GOOD, told.power_cut)
    else:
        yield Finding("power cut", WARN, told.power_cut, "lifeboat-appliance seal add machine")
    if not slots.recovery:
        fact = "the MSP's recovery card does not open it: without this machine its secrets are lost"
        yield Finding("recovery", WARN, fact, "lifeboat-appliance seal add recovery RECIPIENT")
    if told.at_service and not _passed(_unit()):
        fact = f"{UNIT_FILE} does not pass the credential {NAME}: the service cannot open the seal"
        yield Finding("unit", BAD, fact, f"lifeboat-appliance unit > {UNIT_FILE} && systemctl daemon-reload")


def _unit() -> str | None:
    try:
        return read_limited(UNIT_FILE, _UNIT_BYTES).decode(errors="replace")
    except FileMissing:
        return None


def _passed(unit: str | None) -> bool:
    """Whether a unit passes the credential; where there is none, somebody else sees to the service."""
    return unit is None or any(line.startswith(f"LoadCredentialEncrypted={NAME}:") for line in unit.splitlines())


def examine_memory_on_disk() -> Iterator[Finding]:
    """Tells of swap and hibernation, which write to the disk what is in memory."""
    swaps = Path("/proc/swaps").read_text(encoding="utf-8")
    command_line = Path("/proc/cmdline").read_text(encoding="utf-8")
    power = Path("/sys/power/state")
    states = power.read_text(encoding="utf-8") if power.exists() else ""
    yield swap_finding(swaps)
    yield hibernation_finding(swaps, command_line, states)


def swap_finding(swaps: str) -> Finding:
    """Judges /proc/swaps: zram is memory itself. Pure."""
    devices = _on_disk(swaps)
    if not devices:
        return Finding("swap", GOOD, "none on a disk")
    hint = "swapoff -a, or swap on an encrypted device: models and prompts can reach it (the unit forbids it its own)"
    return Finding("swap", WARN, f"on, on a disk: {', '.join(devices)}", hint)


def hibernation_finding(swaps: str, command_line: str, states: str) -> Finding:
    """Judges whether this machine can write its whole memory to a disk: kernel, swap, and a place to resume. Pure.

    Args:
        swaps: /proc/swaps.
        command_line: /proc/cmdline.
        states: /sys/power/state, "" where there is none.
    """
    resumes = any(word.startswith("resume=") and word != "resume=" for word in command_line.split())
    if "disk" not in states.split() or not (_on_disk(swaps) or resumes):
        return Finding("hibernation", GOOD, "not possible: the kernel has it not, or there is no swap on a disk")
    fact = f"possible ({'resume= is set' if resumes else 'there is swap on a disk'}): it writes all memory to the disk"
    return Finding("hibernation", WARN, fact, "systemctl mask hibernate.target hybrid-sleep.target")


def _on_disk(swaps: str) -> list[str]:
    names = [line.split()[0] for line in swaps.splitlines()[1:] if line.strip()]
    return [name for name in names if not name.startswith("/dev/zram")]
