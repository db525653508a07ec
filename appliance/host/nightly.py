"""The nightly look at what serves: the self-test again, a question to each model, and every chunk of the disk.

A box waits for its day for months; disks and machines age meanwhile. What is found is told by `status` and `check`.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta

from appliance.host.gate import NOT_TESTED, asked, limit_ms_of
from appliance.host.loaded import Loaded
from appliance.host.trial import NotProved
from appliance.store import nightly
from appliance.store.layout import StateLayout
from appliance.store.nightly import Nightly
from bundler.format.bundle import check_chunks
from bundler.format.errors import LifeboatError
from bundler.knowledge import selftest

HOUR, _SPREAD_S = 3, 3600
# A disk that answers questions meanwhile must not be busy with this.
SCRUB_BYTES_S = 20_000_000


class Stopped(Exception):
    """The process ends before the look does."""


def wait_s(now: datetime, site: str) -> float:
    """Returns the seconds until the next look: between three and four at night by the local clock, by site."""
    spread_s = int.from_bytes(hashlib.sha256(site.encode()).digest()[:4]) % _SPREAD_S
    following = now.replace(hour=HOUR, minute=0, second=0, microsecond=0) + timedelta(seconds=spread_s)
    if following <= now:
        following += timedelta(days=1)
    return (following - now).total_seconds()


async def every_night(serving: Callable[[], Loaded | None], layout: StateLayout, site: str) -> None:
    """Looks each night at what serves then, and writes down what was found."""
    while True:
        await asyncio.sleep(wait_s(datetime.now().astimezone(), site))
        loaded = serving()
        if loaded is None:
            continue
        try:
            await asyncio.to_thread(nightly.write, layout, await look(loaded))
        except Exception as error:  # noqa: BLE001 - a full disk, or a version that closed meanwhile: not the last look
            traceback.print_tb(error.__traceback__)  # the places alone: its words may quote content


async def look(loaded: Loaded, scrub_bytes_s: int = SCRUB_BYTES_S) -> Nightly:
    """Looks at one version; whatever fails is a line of what was found."""
    stopping = threading.Event()
    lines: list[str] = []
    passed = True
    try:
        for part in (_knowledge(loaded), _models(loaded), _chunks(loaded, stopping, scrub_bytes_s)):
            try:
                told, good = await part
            except (LifeboatError, OSError) as failure:
                told, good = [f"FAILED, {_fact(failure)}"], False
            lines += told
            passed = passed and good
    finally:
        stopping.set()
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    return Nightly(loaded.version.number, when, passed, tuple(lines))


async def _knowledge(loaded: Loaded) -> tuple[list[str], bool]:
    spec, knowledge = loaded.box.service.selftest, loaded.box.knowledge
    if spec is None or knowledge is None:
        return [], True

    def run() -> tuple[list[str], bool]:
        cases = selftest.read_cases(loaded.bundle.read(spec.asset))
        report = selftest.run(cases, knowledge, spec)
        return report.counts(), report.passed

    return await asyncio.to_thread(run)


async def _models(loaded: Loaded) -> tuple[list[str], bool]:
    lines, passed = [], True
    for engine in loaded.box.engines.values():
        try:
            line = await asked(engine, limit_ms_of(loaded.box.service))
            passed = passed and NOT_TESTED not in line
        except NotProved as failure:
            line, passed = f"FAILED, {failure}", False
        lines.append(line)
    return lines, passed


async def _chunks(loaded: Loaded, stopping: threading.Event, bytes_s: int) -> tuple[list[str], bool]:
    began, done, lock = time.monotonic(), 0, threading.Lock()

    def pace(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            ahead_s = done / bytes_s - (time.monotonic() - began)
        if stopping.wait(max(0.0, ahead_s)) or stopping.is_set():
            raise Stopped

    def scrub() -> int:
        return check_chunks(loaded.bundle, pace, threads=1)

    try:
        return [f"disk: {await asyncio.to_thread(scrub) / 1e6:.0f} MB as they were signed"], True
    except (LifeboatError, OSError) as failure:
        return [f"{nightly.DISK_FAILED}, {_fact(failure)}; `install` with the medium in place copies it again"], False


def _fact(failure: LifeboatError | OSError) -> str:
    return failure.fact if isinstance(failure, LifeboatError) else str(failure)
