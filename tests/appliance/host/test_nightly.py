"""When the nightly look comes: once a night, each site at its own minute."""

import asyncio
import errno
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import appliance.host.nightly as looks
from appliance.host.nightly import every_night, look, wait_s
from appliance.store import nightly
from appliance.store.layout import StateLayout
from bundler.format.errors import BadBundle

BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize("hour", range(24))
def test_it_comes_between_three_and_four(hour: int) -> None:
    """By the local clock, within a day from any moment."""
    now = datetime(2026, 11, 21, hour, 30, tzinfo=BERLIN)
    seconds = wait_s(now, "bristol")
    assert 0 < seconds <= 86_400
    assert (now + timedelta(seconds=seconds)).hour == 3


def test_sites_do_not_look_at_the_same_second() -> None:
    """Boxes that share a disk array would."""
    now = datetime(2026, 11, 21, 12, tzinfo=BERLIN)
    assert len({wait_s(now, f"site-{number}") for number in range(50)}) > 40


def test_what_was_found_is_read_back(tmp_path: Path) -> None:
    """A record that was cut short counts as none."""
    layout = StateLayout(tmp_path)
    found = nightly.Nightly(3, "2026-11-21T03:10:00+01:00", passed=False, lines=("disk: FAILED, vol/0001.age",))
    assert nightly.read(layout) is None
    nightly.write(layout, found)
    assert nightly.read(layout) == found
    layout.nightly.write_bytes(b"{")
    assert nightly.read(layout) is None


def test_a_part_that_cannot_be_looked_at_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage where the cases lie, too; the other parts are looked at all the same."""

    async def damaged(*_: Any) -> tuple[list[str], bool]:
        raise BadBundle("vol/0001.age is damaged near byte 7")

    async def whole(*_: Any) -> tuple[list[str], bool]:
        return ["disk: 1 MB as they were signed"], True

    monkeypatch.setattr(looks, "_knowledge", damaged)
    monkeypatch.setattr(looks, "_models", whole)
    monkeypatch.setattr(looks, "_chunks", whole)
    loaded: Any = SimpleNamespace(version=SimpleNamespace(number=3))
    found = asyncio.run(look(loaded))
    assert not found.passed
    assert found.lines == ("FAILED, vol/0001.age is damaged near byte 7", *["disk: 1 MB as they were signed"] * 2)


def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes no record of it; the next night looks again."""
    nights: list[int] = []

    async def found(_: Any) -> nightly.Nightly:
        nights.append(len(nights))
        if len(nights) == 3:
            raise asyncio.CancelledError
        return nightly.Nightly(1, "now", passed=True, lines=())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(looks, "look", found)
    monkeypatch.setattr(looks, "wait_s", lambda *_: 0.0)
    monkeypatch.setattr(nightly, "write", full)
    serving: Any = object()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(every_night(lambda: serving, StateLayout(tmp_path), "bristol"))
    assert nights == [0, 1, 2]
