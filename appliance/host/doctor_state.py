"""What `doctor` says of the state: its version and models, whom it trusts and until when, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from appliance.engine import probe
from appliance.engine.fit import DoesNotFit, Wanted
from appliance.engine.fitting import Room, read_facts
from appliance.engine.machine import Machine
from appliance.engine.need import Q8
from appliance.engine.reading import ReadAt
from appliance.host.doctor_hardware import room_for_next
from appliance.host.finding import BAD, GOOD, WARN, Finding
from appliance.records.cache import read_tally
from appliance.records.journal import NotKept
from appliance.store import current, image_record, intake
from appliance.store.layout import StateLayout
from appliance.store.trust import TrustStore
from appliance.store.versions import Version
from bundler.files import DISK
from bundler.format.bundle import Bundle
from bundler.format.errors import FileMissing, LifeboatError
from bundler.format.service import Service
from bundler.format.trust.verify import WARN_BEFORE, TrustedRepository

_MEDIUM = "ask the MSP for a medium that was signed again; what is installed keeps running"


def version_findings(layout: StateLayout, version: Version, bundle: Bundle) -> Iterator[Finding]:
    """Examines the serving version, which is open."""
    proof = current.proof_of(layout, version.number)
    said = version.model_tested if proof is None else proof.tested
    tested = "" if said else "; the local model was not tested at install"
    yield Finding("version", GOOD, f"{version.number}, bundle {version.bundle}, made {version.made}{tested}")
    yield from examine_models(bundle.index.service, bundle.reader, probe.look(), probe.engines_bytes())
    yield room_for_next(layout, [file.length_bytes for file in intake.files_of(bundle.descriptor)])


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


def cache_findings(layout: StateLayout) -> Iterator[Finding]:
    """Examines the file of the answer cache, where there is one."""
    if not layout.cache.exists():
        return
    try:
        answers, size_bytes = read_tally(layout.cache)
    except NotKept as error:
        fact = f"cannot be read: {error.fact}; answers are neither kept nor given"
        yield Finding("answer cache", WARN, fact, f"a damaged one is made anew; else see to {layout.cache}")
        return
    yield Finding("answer cache", GOOD, f"{answers} answers are kept, {size_bytes // 1024} KiB, sealed")


def image_findings(layout: StateLayout, bundle: Bundle) -> Iterator[Finding]:
    """Examines what became of the container images of the serving version."""
    specs, record = bundle.index.service.images, image_record.read(layout)
    mine = record is not None and record.bundle == bundle.descriptor.bundle
    told = {item.name: item for item in record.images} if record is not None and mine else {}
    for spec in specs:
        item = told.get(spec.name)
        if item is None:
            fact = "the bundle's image is not loaded, or an earlier one is"
            yield Finding(f"image {spec.name}", WARN, fact, "lifeboat-appliance image load, as root")
        elif item.engine:
            yield Finding(f"image {spec.name}", GOOD, f"{item.reference} in {item.engine}, not started")
        else:
            hint = f"lifeboat-appliance image load, or image export {spec.name} FOLDER"
            yield Finding(f"image {spec.name}", WARN, f"not loaded: {item.problem}", hint)


def trust_findings(layout: StateLayout, now: datetime) -> Iterator[Finding]:
    """Examines the pinned root, the expiry of the metadata that was accepted last, and the clock."""
    trust = TrustStore(layout.trust, DISK)
    try:
        root, remembered, expiries = trust.root(), trust.remembered(), trust.expiries()
        trusted = TrustedRepository(root, repository=None, now=now, remembered=None)
    except FileMissing:
        hint = "install once from the medium"
        yield Finding("trust", WARN, "no root is pinned: the next medium is held against the site card's", hint)
        return
    except (LifeboatError, ValueError) as error:
        fact = error.fact if isinstance(error, LifeboatError) else str(error)
        yield Finding("trust", BAD, f"what this box trusts cannot be read: {fact}", "enrol again with the site card")
        return
    yield Finding("trust", GOOD, f"root version {trusted.root_version} of MSP {trusted.msp[:16]} is pinned")
    if expiries:
        yield expiry(expiries, now)
    if remembered is not None:
        yield clock(remembered.signed_time, now)


def expiry(expiries: Mapping[str, datetime], now: datetime) -> Finding:
    """Says which signature ends first, and when. Pure. Expiry never stops what runs."""
    role, first = min(expiries.items(), key=lambda item: item[1])
    days = (first - now).days
    if first <= now:
        over = sorted(name for name, when in expiries.items() if when <= now)
        return Finding(
            "metadata", WARN, f"expired: {', '.join(over)}, the first {(now - first).days} days ago", _MEDIUM
        )
    told = f"{role} is the first to expire, in {days} days, on {first:%Y-%m-%d}"
    near = first - now < WARN_BEFORE
    return Finding("metadata", WARN if near else GOOD, told, _MEDIUM if near else "")


def clock(signed_time: str, now: datetime) -> Finding:
    """Holds the clock against the newest signed time (ISO 8601). Pure."""
    signed = datetime.fromisoformat(signed_time)
    signed = signed if signed.tzinfo else signed.replace(tzinfo=UTC)
    if now + timedelta(minutes=5) < signed:
        fact = f"the clock says {now:%Y-%m-%d}, signed metadata was made {signed:%Y-%m-%d}"
        return Finding("clock", BAD, fact, "set it")
    return Finding("clock", GOOD, f"{now:%Y-%m-%d %H:%M} UTC, after the newest signed time")
