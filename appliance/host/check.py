"""One line for monitoring: whether the box answers, and what will soon keep it from doing so.

The exit codes are those of monitoring plugins: 0 good, 1 warning, 2 critical, 3 unknown.
"""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.edge.tls_files import days_left
from appliance.host import outlook
from appliance.host.doctor_tls import SOON_DAYS, shown_at
from appliance.host.outlook import RungTold
from appliance.host.own_page import own_page
from appliance.host.status import Status, read_status
from appliance.host.switching import is_served, own_url
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.slots import opens_alone
from bundler.format.errors import LifeboatError, NotReady

GOOD, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_ANSWER_BYTES = 1 << 20
_LEAST_FREE = 0.1
_NIGHTS = 3
_TICKET_S = 3_600  # somebody was told that a person would answer


@dataclass(frozen=True)
class Unread:
    """Why the state of an enrolled box was not read; `attended`: only a passphrase opens it, as it shall be."""

    fact: str
    attended: bool


@dataclass(frozen=True)
class Seen:
    """What a look at the box found.

    Attributes:
        status: From its state, or why there is none.
        served: A supervisor runs.
        answer: What `/status.json` told, or None where nothing answered.
        free_share: Of the disk.
        rungs: What the serving process wrote down of each.
        tls_days: For how many days the certificate that it shows is good, None where it shows none.
    """

    status: Status | Unread
    served: bool
    answer: dict[str, Any] | None
    free_share: float
    rungs: Sequence[RungTold] = ()
    tls_days: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The exit code, and why."""

    code: int
    reasons: tuple[str, ...]

    @property
    def word(self) -> str:
        return _WORDS[self.code]

    def line(self) -> str:
        return f"LIFEBOAT {self.word}: {'; '.join(self.reasons)}"


def look(root: Path, now: datetime, max_age_days: int) -> Verdict:
    """Looks at a box; whatever cannot be looked at is told as unknown."""
    if not root.is_dir():
        return Verdict(UNKNOWN, (f"there is no state at {root}",))
    layout = StateLayout(root)
    status: Status | Unread
    try:
        status = read_status(root, now)
    except LifeboatError as error:
        seal = Seal(layout.keys)
        if not seal.enrolled:
            return Verdict(UNKNOWN, (error.fact,))
        status = Unread(error.fact, attended=isinstance(error, NotReady) and not opens_alone(seal.folder))
    disk = shutil.disk_usage(root)
    served = is_served(layout)
    rungs = outlook.read(layout) if served else ()
    shown = shown_at(own_url(layout))
    tls_days = days_left(shown, now) if shown else None
    return judge(Seen(status, served, _asked(layout), disk.free / disk.total, rungs, tls_days), max_age_days)


def judge(seen: Seen, max_age_days: int) -> Verdict:
    """Returns the worst of what was seen. Pure."""
    found: list[tuple[int, str]] = []
    if not seen.served:
        found.append((CRITICAL, "nothing serves"))
    elif seen.answer is None:
        found.append((CRITICAL, "it serves and does not answer"))
    else:
        found += _of_answer(seen.answer)
        found += [
            (WARNING, f"provider {rung.rung} is not used: {rung.reason}") for rung in seen.rungs if rung.lacks_key
        ]
    if isinstance(seen.status, Status):
        found = [*_of_status(seen.status, max_age_days), *found]
    else:
        found.append((GOOD if seen.status.attended else WARNING, seen.status.fact))
    if seen.free_share < _LEAST_FREE:
        found.append((WARNING, f"{seen.free_share:.0%} of the disk are free"))
    if seen.tls_days is not None and seen.tls_days < SOON_DAYS:
        ended = seen.tls_days < 0
        found.append(
            (
                CRITICAL if ended else WARNING,
                f"its certificate {'has ended' if ended else f'ends in {seen.tls_days} days'}",
            )
        )
    worst = max(code for code, _ in found)
    return Verdict(worst, tuple(text for code, text in sorted(found, key=lambda item: -item[0])))


def _of_status(status: Status, max_age_days: int) -> list[tuple[int, str]]:
    found = [(GOOD, f"version {status.version}, bundle {status.bundle}, {status.age_days} days old")]
    if status.age_days > max_age_days:
        found.append((WARNING, f"older than {max_age_days} days: no refresh has come"))
    if status.handoff_waiting < 0 or status.handoff_oldest_s > _TICKET_S:
        found.append((WARNING, status.handoff))
    if not status.model_tested:
        found.append((WARNING, "the local model is not tested"))
    if status.nightly_failed:
        found.append((WARNING, status.nightly))
    elif status.nightly_age_days is not None and status.nightly_age_days > _NIGHTS:
        found.append((WARNING, f"no nightly look for {status.nightly_age_days} days"))
    return [*found, *((WARNING, line) for line in (*status.image_problems, *status.given_up))]


def _of_answer(answer: dict[str, Any]) -> list[tuple[int, str]]:
    found = [(GOOD, f"mode {answer.get('mode')}")]
    if not answer.get("ready"):
        found.append((CRITICAL, "no rung can answer"))
    if answer.get("pinned"):
        found.append((WARNING, f"pinned to {answer['pinned']}"))
    failed = [rung["rung"] for rung in answer.get("rungs", []) if rung.get("state") == "failed"]
    return [*found, *((WARNING, f"rung {name} has failed") for name in failed)]


def _asked(layout: StateLayout) -> dict[str, Any] | None:
    """Asks the box itself, whose address its supervisor wrote down."""
    with suppress(OSError, ValueError, http.client.HTTPException):
        _, data = own_page(own_url(layout), "/status.json", _ANSWER_BYTES)
        value = json.loads(data)
        return value if isinstance(value, dict) else None
    return None
