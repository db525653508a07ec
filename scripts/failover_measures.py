"""Two figures beside the verdicts: what a request costs once a breaker is open, and how soon a provider is back.

Both are taken from outside: the caller's clock and the wall's log.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from failover_call import Caller
from failover_scenarios import INTERVAL_S, SECOND
from failover_systems import BACK, OPENED, Lifeboat
from fault_wall import FaultWall, Seen

PAIRS = 20
SETTLED_S, GIVE_UP_S = 3.0, 150.0
EXTRA_MS_MAX, BACK_S_MAX = 50.0, 15.0


async def extra_once_open(system: Lifeboat, wall: FaultWall) -> dict[str, Any]:
    """Asks through a breaker that is open, and the second provider itself, by turns; returns the difference in ms."""
    box = Caller(f"{system.url}/v1", system.token, 30.0)
    itself = Caller(f"{system.wall}/second/v1", "", 30.0)
    for _ in range(3):
        await box.ask(f"{system.policy}-{OPENED}")
    await asyncio.sleep(SETTLED_S)
    wall.reset()
    through, direct = list[float](), list[float]()
    for _ in range(PAIRS):
        through.append((await box.ask(f"{system.policy}-{OPENED}")).seconds)
        direct.append((await itself.ask(SECOND)).seconds)
    extra_ms = (statistics.median(through) - statistics.median(direct)) * 1000
    asked = sum(_of(one, OPENED) and not one.probe for one in wall.log)
    return {"extra_ms": round(extra_ms, 1), "pairs": PAIRS, "asked": asked, "direct_s": statistics.median(direct)}


async def back_after(system: Lifeboat, wall: FaultWall, name: str) -> dict[str, Any]:
    """Returns how long after its recovery a provider was asked again by a user's request, one every 4 s.

    It recovers as soon as its first request has failed, or, by the name's kind, as soon as a billed probe has.
    """
    fault, kind = BACK[name]
    wall.act(name, fault)
    wall.reset()
    recovering = asyncio.create_task(_recovered(wall, name, kind))
    caller, began_s, served = Caller(f"{system.url}/v1", system.token, 60.0), time.monotonic(), list[str]()
    for number in range(int(GIVE_UP_S / INTERVAL_S)):
        await asyncio.sleep(max(0.0, began_s + number * INTERVAL_S - time.monotonic()))
        served.append((await caller.ask(f"{system.policy}-{name}")).ended)
        again = _again(wall, name, recovering.result()) if recovering.done() else None
        if again is not None:
            break
    recovering.cancel()
    touches = [one for one in wall.log if _of(one, name) and not one.probe]
    return {
        "back_s": again,
        "asked_before": len(touches) - (again is not None),
        "unserved": sum(each != "answer" for each in served),
    }


def told(found: dict[str, Any]) -> list[str]:
    """Returns the figures as lines, with what they are held to."""
    extra = found["extra"]
    cheap = _word(extra["extra_ms"] <= EXTRA_MS_MAX)
    how = f"median of {extra['pairs']} pairs by turns, answers of {extra['direct_s']:.2f} s"
    limit = f"at most {EXTRA_MS_MAX:.0f}: {cheap}"
    lines = [f"extra once open: {extra['extra_ms']:+.1f} ms ({how}; {limit}); the open one was asked {extra['asked']}x"]
    for name, (fault, kind) in BACK.items():
        row = found[name]
        held = row["back_s"] is not None and row["back_s"] <= BACK_S_MAX and not row["unserved"]
        back = "never" if row["back_s"] is None else f"{row['back_s']:.1f} s"
        when = "a billed probe failed" if kind == "billed" else "one request failed"
        lines.append(
            f"back after `{fault}`, recovered when {when}: {back} (at most {BACK_S_MAX:.0f}: {_word(held)}); "
            f"asked {row['asked_before']}x before, {row['unserved']} unserved"
        )
    return lines


async def measured(system: Lifeboat, wall: FaultWall) -> dict[str, Any]:
    """Takes both."""
    found: dict[str, Any] = {"extra": await extra_once_open(system, wall)}
    for name in BACK:
        found[name] = await back_after(system, wall, name)
    return found


async def _recovered(wall: FaultWall, name: str, kind: str) -> float:
    """Waits for the failure that is the last one; returns when it was over, in the wall's milliseconds."""
    probe = kind == "billed"
    while not any(_of(one, name) and one.billed and one.probe == probe and _over(one) for one in wall.log):  # noqa: ASYNC110 - the wall's log tells nobody
        await asyncio.sleep(0.05)
    wall.act(name, SECOND)
    return wall.now_ms()


def _again(wall: FaultWall, name: str, recovered_ms: float) -> float | None:
    later = (one.at_ms for one in wall.log if _of(one, name) and not one.probe and one.at_ms >= recovered_ms)
    return next(((at_ms - recovered_ms) / 1000 for at_ms in later), None)


def _of(seen: Seen, name: str) -> bool:
    return seen.path.startswith(f"/{name}/")


def _over(seen: Seen) -> bool:
    return seen.over_ms is not None or seen.left_ms is not None


def _word(held: bool) -> str:  # noqa: FBT001 - one value of one meaning
    return "held" if held else "MISSED"
