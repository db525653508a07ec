"""Leaving a failed upstream alone for a while, so that the next request does not pay for it again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Hold:
    """An upstream is not asked before `until_s` (monotonic seconds), because of `reason`."""

    until_s: float
    reason: str


def held(holds: Mapping[str, Hold], name: str, now_s: float) -> str | None:
    """Returns why `name` is left alone at `now_s`, or None when it may be asked."""
    hold = holds.get(name)
    if hold is None or now_s >= hold.until_s:
        return None
    return f"{hold.reason}; asked again in {max(1, round(hold.until_s - now_s))} s"


def failing(holds: Mapping[str, Hold], name: str, now_s: float) -> str | None:
    """Returns why `name` failed last, whether or not its hold is over; None once it has answered again."""
    return held(holds, name, now_s) or (f"{holds[name].reason}; asked again now" if name in holds else None)


def after(holds: Mapping[str, Hold], name: str, *, now_s: float, hold_s: float, reason: str) -> dict[str, Hold]:
    """Returns the holds after `name` failed; a hold of 0 changes nothing, and no hold is shortened."""
    if hold_s <= 0:
        return dict(holds)
    until = max(now_s + hold_s, holds[name].until_s if name in holds else 0.0)
    return {**holds, name: Hold(until, reason)}


def without(holds: Mapping[str, Hold], name: str) -> dict[str, Hold]:
    """Returns the holds after `name` answered."""
    return {key: hold for key, hold in holds.items() if key != name}
