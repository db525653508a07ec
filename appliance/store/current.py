"""Which version serves, which waits to, and which were given up: links and small records that change by one rename.

They need no secret, so the supervisor reads them without opening the seal. Somebody who writes to this disk can choose
among the versions that are installed here, and no others: what a version uses is MACed and signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.store.layout import StateLayout
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing, NotReady
from bundler.format.record import from_json, to_json

_RECORD_BYTES = 65_536
UNDONE = ("rolled back", "taken back")  # what happened to a version that had served, and that only a person brings back
_SOFTWARE = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}")


@dataclass(frozen=True)
class GivenUp:
    """Why a version does not serve: refused before it did, rolled back after, or taken back by a person.

    Attributes:
        what: "refused", "rolled back" or "taken back".
        reason: In words.
        when: ISO 8601.
    """

    what: str
    reason: str
    when: str


def current_number(layout: StateLayout) -> int | None:
    """Returns the number of the serving version, or None where nothing is installed."""
    return _number(layout.current)


def waiting_number(layout: StateLayout) -> int | None:
    """Returns the number of the version that waits to be proved, or None."""
    return _number(layout.following)


@dataclass(frozen=True)
class Proof:
    """What a version said when it took over, knowledge and models; `tested` is false where one could not be started."""

    lines: tuple[str, ...]
    tested: bool


def note_proof(layout: StateLayout, number: int, proof: Proof, layer: FileLayer = DISK) -> None:
    """Records the proof of a version beside it."""
    write_atomic(layout.version(number) / "proof.json", canonical.encode(to_json(proof)), mode=0o600, layer=layer)


def proof_of(layout: StateLayout, number: int) -> Proof | None:
    """Returns what `note_proof` recorded, or None: then the version's own record tells of its install."""
    try:
        data = read_limited(layout.version(number) / "proof.json", _RECORD_BYTES)
        return from_json(Proof, canonical.decode(data, "proof.json"), "proof")
    except BadBundle:  # not there, or not as it was written
        return None


def told(recorded: Sequence[str], proof: Proof | None) -> tuple[str, ...]:
    """Returns the lines of a version's self-test: those of its install, where what serves did not ask again. Pure."""
    if proof is None:
        return tuple(recorded)
    again = {_subject(line) for line in proof.lines}
    return (*(line for line in recorded if _subject(line) not in again and not line.startswith("model ")), *proof.lines)


def _subject(line: str) -> str:
    return line.split(":", 1)[0]


def activate(layout: StateLayout, number: int, layer: FileLayer = DISK) -> None:
    """Makes a version the serving one by one rename."""
    layer.replace_link(layout.current, f"versions/{number}")


def propose(layout: StateLayout, number: int, layer: FileLayer = DISK) -> None:
    """Lets what serves prove a version, and switch to it."""
    layer.replace_link(layout.following, f"versions/{number}")


def promote(layout: StateLayout, layer: FileLayer = DISK) -> None:
    """Makes the proposed version the serving one."""
    layer.rename(layout.following, layout.current)
    layer.sync_folder(layout.root)


def give_up(layout: StateLayout, number: int, why: GivenUp, layer: FileLayer = DISK) -> None:
    """Records why a version does not serve; withdraws it where it was proposed."""
    write_atomic(layout.version(number) / "given-up.json", canonical.encode(to_json(why)), mode=0o600, layer=layer)
    if waiting_number(layout) == number:
        layer.remove(layout.following)
        layer.sync_folder(layout.root)


def given_up(layout: StateLayout, number: int) -> GivenUp | None:
    """Returns why a version does not serve, or None; a record that this disk damaged still says that it does not."""
    try:
        data = read_limited(layout.version(number) / "given-up.json", _RECORD_BYTES)
    except FileMissing:
        return None
    try:
        return from_json(GivenUp, canonical.decode(data, "given-up.json"), "given-up")
    except (BadBundle, ValueError):
        return GivenUp("refused", "the record of the reason is damaged on this disk", "an unknown day")


def roll_back(layout: StateLayout, why: GivenUp, layer: FileLayer = DISK) -> int:
    """Returns to the version before the serving one, and records why.

    Raises:
        NotReady: There is none to return to.
    """
    number = current_number(layout)
    before = None if number is None else previous(layout, number)
    if number is None or before is None:
        raise NotReady("there is no version to return to")
    # The reason first: after a power cut between the two, the same decision is taken again.
    give_up(layout, number, why, layer)
    activate(layout, before, layer)
    return before


def previous(layout: StateLayout, number: int) -> int | None:
    """Returns the newest whole version before `number` that was not given up, or None."""
    whole = (other for other in numbers(layout) if other < number and (layout.version(other) / "version.mac").is_file())
    return max((other for other in whole if given_up(layout, other) is None), default=None)


def bundle_of(layout: StateLayout, number: int) -> str | None:
    """Returns the bundle that a version says it uses, None where its record cannot be read."""
    try:
        return str(_record(layout, number).get("bundle"))
    except BadBundle:
        return None


def software_of(layout: StateLayout, number: int) -> str:
    """Returns the program's version that serves a version; "" is the one that looks.

    Raises:
        BadBundle: The record was changed on this disk to something that is no version.
    """
    software = _record(layout, number).get("software", "")
    if isinstance(software, str) and (not software or _SOFTWARE.fullmatch(software)):
        return software
    raise BadBundle(f"the record of version {number} names no program")


def set_aside(layout: StateLayout) -> list[tuple[int, GivenUp]]:
    """Returns the versions that were rolled back after they had served, newest first."""
    found = [(number, given_up(layout, number)) for number in sorted(numbers(layout), reverse=True)]
    return [(number, why) for number, why in found if why is not None and why.what in UNDONE]


def unfinished(layout: StateLayout) -> list[int]:
    """Returns the versions that an install wrote and never proposed: newer than what serves, and given up by nobody."""
    # What waits is looked at first: it may become current, or be given up, in between.
    waiting = waiting_number(layout)
    serving = current_number(layout) or 0
    newer = [number for number in numbers(layout) if number > serving and number != waiting]
    return [number for number in newer if given_up(layout, number) is None]


def _record(layout: StateLayout, number: int) -> dict[str, Any]:
    """Reads a version's record without its MAC."""
    return canonical.decode(read_limited(layout.version(number) / "version.json", _RECORD_BYTES), "version.json")


def numbers(layout: StateLayout) -> Iterator[int]:
    """Yields the numbers of all versions on this box, whole or not."""
    for path in layout.versions.iterdir():
        if path.name.isascii() and path.name.isdigit():
            yield int(path.name)


def _number(link: Path) -> int | None:
    if not link.is_symlink():
        return None
    name = link.readlink().name
    return int(name) if name.isascii() and name.isdigit() else None


def attempted(layout: StateLayout) -> int | None:
    """Returns the version whose proof began and never ended, or None; a record that cannot be read is none."""
    try:
        value = canonical.decode(read_limited(layout.attempt, _RECORD_BYTES), "attempt.json")
        return int(value["version"])
    except (BadBundle, KeyError, TypeError, ValueError):
        return None


def note_attempt(layout: StateLayout, number: int, layer: FileLayer = DISK) -> None:
    """Says on the disk that a version is about to prove itself, so that one that takes the machine down has its end."""
    write_atomic(layout.attempt, canonical.encode({"version": number}), mode=0o600, layer=layer)


def end_attempt(layout: StateLayout, layer: FileLayer = DISK) -> None:
    """Forgets the attempt: the version serves, or its refusal is on record, or a person stopped the box."""
    if layout.attempt.exists():
        layer.remove(layout.attempt)
        layer.sync_folder(layout.root)


@dataclass(frozen=True)
class Boots:
    """How often a version was started without becoming healthy; version 0 is none.

    The counter lies on the disk before each start, so that a version that takes the machine down counts too.
    """

    version: int = 0
    starts: int = 0


def read_boots(layout: StateLayout) -> Boots:
    """Returns the counter; one that cannot be read counts from the beginning, since serving comes first."""
    try:
        return from_json(Boots, canonical.decode(read_limited(layout.boots, _RECORD_BYTES), "boots.json"), "boots")
    except (FileMissing, BadBundle, ValueError):
        return Boots()


def note_start(layout: StateLayout, number: int, layer: FileLayer = DISK) -> int:
    """Counts a start before it happens; returns how many there were in a row, this one included."""
    before = read_boots(layout)
    boots = Boots(number, before.starts + 1 if before.version == number else 1)
    write_atomic(layout.boots, canonical.encode(to_json(boots)), mode=0o600, layer=layer)
    return boots.starts


def note_healthy(layout: StateLayout, number: int, layer: FileLayer = DISK) -> None:
    """Forgets the starts of a version that serves well."""
    if read_boots(layout) != (good := Boots(number, 0)):
        write_atomic(layout.boots, canonical.encode(to_json(good)), mode=0o600, layer=layer)
