"""When the nightly look comes: once a night, each site at its own minute."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from appliance.host.nightly import wait_s
from appliance.store import nightly
from appliance.store.layout import StateLayout

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
