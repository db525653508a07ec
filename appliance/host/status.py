"""What this box is, from its state alone: it needs no running server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.gateway import pin_file
from appliance.host.seal_findings import protection
from appliance.host.switching import own_url
from appliance.records.entry import HANDOFF
from appliance.records.journal import NotKept, read_standing
from appliance.store import current, image_record, nightly, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.format.record import to_json


@dataclass(frozen=True)
class Status:
    """The serving version and what to know about it.

    Attributes:
        age_days: Since the bundle was made.
        nightly: When the last nightly look was, and what it found.
        nightly_failed: Whether it found anything wrong.
        nightly_age_days: How long ago it was, None where there was none.
        program: Version of the program that serves; "" is the one that looks.
        comes_back_alone: Whether it answers after a power cut with nobody present.
        given_up: A line for each newer version that does not serve, and why.
        seal: What a pulled disk tells.
        serves_at: Where it is reached now, "" where nothing serves.
        pinned: What the box is pinned to and until when, or "".
        handoff: How many hand-off tickets wait and why, "" where none does.
        handoff_waiting: How many; -1 where the journal cannot be read.
        handoff_oldest_s: The age of the oldest.
        images: A line for each container image.
        image_problems: Those of them that a person should see to.
    """

    site: str
    version: int
    bundle: str
    made: str
    installed: str
    age_days: int
    selftest: tuple[str, ...]
    model_tested: bool
    comes_back_alone: str
    given_up: tuple[str, ...]
    nightly: str
    nightly_failed: bool
    nightly_age_days: int | None
    warnings: tuple[str, ...]
    program: str = ""
    seal: str = ""
    serves_at: str = ""
    pinned: str = ""
    handoff: str = ""
    handoff_waiting: int = 0
    handoff_oldest_s: int = 0
    images: tuple[str, ...] = ()
    image_problems: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return [
            f"site {self.site}: version {self.version}, bundle {self.bundle}, made {self.age_days} days ago",
            f"serves at {self.serves_at}" if self.serves_at else "nothing serves: lifeboat-appliance serve",
            *([f"  program {self.program}"] if self.program else []),
            *([f"  pinned to {self.pinned}"] if self.pinned else []),
            *(f"  {line}" for line in self.selftest),
            *self.given_up,
            *([self.handoff] if self.handoff else []),
            *self.images,
            self.nightly,
            self.seal,
            self.comes_back_alone,
        ]


def read_status(root: Path, now: datetime) -> Status:
    """Reads the state.

    Raises:
        NotReady: Not enrolled, or nothing installed.
        BadBundle: Somebody changed the state.
    """
    layout = StateLayout(root)
    seal = Seal(layout.keys)
    secrets, sealed = seal.open(), protection(seal.slots)
    version = versions.read_current(layout, secrets)
    warnings = [] if sealed.protects else [sealed.disk]
    proof = current.proof_of(layout, version.number)
    lines = current.told(version.selftest, proof)
    tested = version.model_tested if proof is None else proof.tested
    if not tested:
        warnings.append("the local model was not tested when this version was installed")
    night, tickets, images = nightly.read(layout), _handoff(layout, now), image_record.read(layout)
    return Status(
        site=secrets.site,
        version=version.number,
        bundle=version.bundle,
        made=version.made,
        installed=version.installed,
        age_days=(now - datetime.fromisoformat(version.made)).days,
        selftest=lines,
        model_tested=tested,
        comes_back_alone=sealed.power_cut,
        seal=sealed.disk,
        given_up=tuple(_given_up(layout, version.number)),
        nightly=_told(night),
        nightly_failed=night is not None and not night.passed,
        nightly_age_days=None if night is None else nightly.age_days(night, now),
        warnings=tuple(warnings),
        program=version.software,
        serves_at=own_url(layout),
        pinned=pin_file.read(layout.pin).words_at(now.timestamp()),
        images=tuple(image_record.lines(images, version.bundle)),
        image_problems=tuple(image_record.problems(images, version.bundle)),
        **tickets,
    )


def selftest_facts(layout: StateLayout, version: versions.Version) -> dict[str, Any]:
    """Returns what the looks at a version found, its taking over and the last night, as `/health/ready` tells it."""
    proof, night = current.proof_of(layout, version.number), nightly.read(layout)
    return {
        "selftest": list(current.told(version.selftest, proof)),
        "model_tested": version.model_tested if proof is None else proof.tested,
        "nightly": None if night is None else {**to_json(night), "age_days": nightly.age_days(night, _now())},
    }


def _handoff(layout: StateLayout, now: datetime) -> dict[str, Any]:
    """Returns what a status tells of the tickets that wait; it needs no key."""
    try:
        standing = read_standing(layout.journal, HANDOFF)
    except NotKept as error:
        return {"handoff": f"hand-off: the journal cannot be read: {error.fact}", "handoff_waiting": -1}
    if not standing.waiting:
        return {}
    age_s = standing.age_s(now.timestamp())
    why = f"; {standing.words}" if standing.words else ""
    told = f"hand-off: {standing.waiting} tickets wait, the oldest for {_span(age_s)}{why}"
    return {"handoff": told, "handoff_waiting": standing.waiting, "handoff_oldest_s": age_s}


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"


def _now() -> datetime:
    return datetime.now(UTC)


def _given_up(layout: StateLayout, serving: int) -> Iterator[str]:
    for number in sorted(current.numbers(layout)):
        why = current.given_up(layout, number)
        if number > serving and why is not None:
            yield f"version {number} was {why.what} on {why.when}: {why.reason}"


def _told(night: nightly.Nightly | None) -> str:
    if night is None:
        return "nightly look: none yet"
    wrong = [line for line in night.lines if "FAILED" in line]
    return (
        f"nightly look of version {night.version} on {night.when}: {'all held' if night.passed else '; '.join(wrong)}"
    )
