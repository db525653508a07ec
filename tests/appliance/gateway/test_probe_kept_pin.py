"""When a probe is due, what outlives a restart, and pins: on clocks that jump."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway import kept_file, pin_file
from appliance.gateway.breaker import CLOSED, HALF_OPEN, JITTER, OPEN, Breaker, Bucket, Rules, waits_s
from appliance.gateway.kept import Clocks, Kept, alike, kept, restored
from appliance.gateway.outcome import Meaning, Verdict
from appliance.gateway.pin import AUTO, LOCAL, Pin, seconds_of
from appliance.gateway.pin_file import Pinned
from appliance.gateway.probe import BILLED, UNBILLED, Probes, found, reachable
from bundler.files import FileLayer
from bundler.format.errors import BadInput

RULES = Rules()
OPENED = Breaker(state=OPEN, reason="it answered 503", opened=1, until_s=105, touched_s=100, epoch=1)
KEY = ("alpha", "large", "f00")
DAY_S = 86_400.0


def _due(
    probes: Probes,
    breaker: Breaker,
    now_s: float = 100.0,
    unix_s: float = 1e9,
    *,
    daily: int = 5,
    watched: bool = False,
) -> str | None:
    return probes.due(breaker, now_s, unix_s, every_s=5, daily=daily, watched=watched)


def test_what_is_well_is_not_probed() -> None:
    """Unless its first tokens come late, or it failed a moment ago."""
    assert _due(Probes(), Breaker()) is None
    assert _due(Probes(), Breaker(), watched=True) == UNBILLED
    doubted = Breaker(streak=1, buckets=(Bucket(19, 1, 1.0),))
    assert _due(Probes(), doubted) == UNBILLED
    assert _due(Probes(), doubted, now_s=200.0) is None


def test_the_unbilled_probe_comes_every_five_seconds() -> None:
    """Twice as often on WATCH, and never to who asked to be left alone."""
    probes = Probes(unbilled_s=97.0)
    assert _due(probes, OPENED) is None
    assert _due(probes, OPENED, watched=True) == UNBILLED
    assert _due(probes, OPENED, now_s=102.0) == UNBILLED
    assert _due(Probes(), replace(OPENED, throttled_s=101.0)) is None


def test_the_billed_probe_needs_a_good_unbilled_one() -> None:
    """At most one a minute, and none beside a trial."""
    well = replace(OPENED, reachable=True)
    assert _due(Probes(unbilled_s=99.0), replace(OPENED, reachable=False)) is None
    assert _due(Probes(unbilled_s=99.0), OPENED) is None
    assert _due(Probes(unbilled_s=99.0), well) == BILLED
    assert _due(Probes(unbilled_s=99.0, billed_s=41.0), well) is None
    assert _due(Probes(unbilled_s=99.0, billed_s=40.0), well) == BILLED
    assert _due(Probes(unbilled_s=99.0), replace(well, state=HALF_OPEN, trial=True)) is None
    assert _due(Probes(unbilled_s=99.0), replace(well, due_s=101.0)) is None


def test_a_day_has_so_many_billed_probes() -> None:
    """And a clock that goes back begins no new day."""
    probes, unix_s = Probes(unbilled_s=99.0), 10 * DAY_S
    for _ in range(5):
        assert _due(replace(probes, billed_s=None), replace(OPENED, reachable=True), unix_s=unix_s) == BILLED
        probes = probes.asked(BILLED, 100.0, unix_s)
    spent = replace(probes, billed_s=None)
    for earlier_s in (0.0, 3 * DAY_S):
        assert _due(spent, replace(OPENED, reachable=True), unix_s=unix_s - earlier_s) is None
    assert _due(spent, replace(OPENED, reachable=True), unix_s=unix_s + DAY_S) == BILLED


@pytest.mark.parametrize(
    ("status", "beginning", "good"),
    [
        (200, b'{"data": []}', True),
        (200, b"\n [", True),
        (200, b"<html>", None),
        (200, b"", None),
        (204, b"", None),
        (302, b"", None),
        (401, b"", True),
        (404, b"<html>", True),
        (429, b"", True),
        (500, b"{}", False),
        (503, b"", False),
    ],
)
def test_a_provider_that_refuses_the_list_is_up(status: int, beginning: bytes, *, good: bool | None) -> None:
    """A failing front is not, and a page that may be a captive portal's tells nothing."""
    assert reachable(status, beginning) is good


@pytest.mark.parametrize("meaning", Meaning)
def test_a_refused_probe_comes_from_who_is_up(meaning: Meaning) -> None:
    """Our own small request may not be to its taste."""
    up = meaning in (Meaning.SUCCESS, Meaning.CALLER, Meaning.INCAPABLE, Meaning.SOFT)
    assert (found(Verdict(meaning, "x")).meaning is Meaning.SUCCESS) is up


def test_what_was_open_is_open_after_a_restart() -> None:
    """For what is left of its time, on a monotonic clock that began anew."""
    record = kept({KEY: (OPENED, Probes(billed_s=90.0, day=3, today=2))}, Clocks(102.0, 5_000.0)).upstreams[0]
    breaker, probes = restored(record, Clocks(7.0, 5_001.0), RULES)
    assert (breaker.state, breaker.reason, breaker.opened) == (OPEN, "it answered 503", 1)
    assert breaker.until_s == pytest.approx(9.0)
    assert breaker.touched_s == pytest.approx(4.0)
    assert breaker.due_s == pytest.approx(7.0 + RULES.look_s), "a probe comes before a request"
    assert (probes.day, probes.today) == (3, 2)
    assert probes.billed_s == pytest.approx(7.0 - 13.0)


def test_a_dead_key_is_dead_after_a_restart() -> None:
    """Its open time is longer than any other's."""
    for until_s, fatal in ((105.0, False), (160.0, True)):
        record = kept({KEY: (replace(OPENED, until_s=until_s), Probes())}, Clocks(102.0, 5_000.0)).upstreams[0]
        breaker, _ = restored(record, Clocks(7.0, 5_000.0), RULES)
        assert breaker.fatal is fatal
        assert waits_s(breaker, 7.0, RULES, probed=True) >= until_s - 102.0


def test_what_is_well_is_not_kept() -> None:
    """A box without trouble writes nothing about its providers."""
    found = {KEY: (Breaker(), Probes()), ("b", "", ""): (Breaker(throttled_s=200), Probes())}
    assert [record.name for record in kept(found, Clocks(100, 1e9)).upstreams] == ["b"]


STATES = st.sampled_from([CLOSED, OPEN, HALF_OPEN])
TIMES_S = st.floats(0, 1e6)


@given(STATES, TIMES_S, TIMES_S, TIMES_S, st.floats(0, 1e9), st.floats(0, 1e9), st.integers(-5, 10**6))
def test_no_jump_of_the_clock_closes_a_provider_for_long(
    state: str, until_s: float, touched_s: float, throttled_s: float, saved_s: float, read_s: float, opened: int
) -> None:
    """Years forth or back: nobody is left alone beyond the caps."""
    before = Breaker(
        state=state, reason="x", opened=opened, until_s=until_s, touched_s=touched_s, throttled_s=throttled_s
    )
    record = kept({KEY: (before, Probes(today=1))}, Clocks(500.0, saved_s)).upstreams[0]
    breaker, _ = restored(record, Clocks(50.0, read_s), RULES)
    for probed in (False, True):
        assert waits_s(breaker, 50.0, RULES, probed=probed) <= RULES.fatal_longest_s * (1 + JITTER)
    assert breaker.state == (CLOSED if state == CLOSED else OPEN)
    assert breaker.touched_s <= 50.0


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """For its owner alone; and a later look at the same clocks tells nothing new."""
    path = tmp_path / "gateway.json"
    found = {KEY: (OPENED, Probes(today=1))}
    record = kept(found, Clocks(102.0, 5_000.0))
    kept_file.write(path, record)
    assert kept_file.read(path) == record
    assert path.stat().st_mode & 0o777 == 0o600
    assert alike(record, kept(found, Clocks(112.0004, 5_010.0)))
    assert not alike(record, kept({KEY: (replace(OPENED, opened=2), Probes(today=1))}, Clocks(102.0, 5_000.0)))
    assert not alike(record, Kept(1, ()))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format":2,"upstreams":[]}', b'{"format":1}', b"\xff" * 99])
def test_a_damaged_file_is_no_file(tmp_path: Path, data: bytes) -> None:
    """The gateway serves without it."""
    path = tmp_path / "gateway.json"
    path.write_bytes(data)
    assert kept_file.read(path) == Kept(1, ())
    assert pin_file.read(path) == Pin()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    """A number and a unit."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "8d", "1w", "1.5h", "\uff12h", "9999999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing pins for ever."""
    with pytest.raises(BadInput):
        seconds_of(text)


def test_a_pin_keeps_from_all_others() -> None:
    """`local` from all."""
    assert Pin().keeps_from("alpha") == ""
    assert Pin("alpha", 0, 60).keeps_from("alpha") == ""
    assert Pin("alpha", 0, 60).keeps_from("beta") == "the box is pinned to alpha until 1970-01-01T00:01:00Z"
    assert Pin(LOCAL, 0, 60).keeps_from("alpha")
    assert Pin(LOCAL, 0, 60).words_at(59) == "local until 1970-01-01T00:01:00Z"
    assert Pin(LOCAL, 0, 60).words_at(60) == Pin().words_at(0) == ""


def test_a_pin_ends_by_itself_and_by_word(tmp_path: Path) -> None:
    """The file is read as soon as it changes, and again after a restart."""
    path, clock, unix = tmp_path / "pin.json", [10.0], [1_000.0]
    pinned = Pinned(path, lambda: clock[0], lambda: unix[0])
    pinned.look()
    assert pinned.now.target == AUTO
    pin_file.write(path, Pin(LOCAL, 1_000, 60))
    pinned.look()
    clock[0] += 59.0
    assert pinned.now.words == "local until 1970-01-01T00:17:40Z"
    clock[0] += 1.0
    assert pinned.now.target == AUTO
    unix[0] = 1_030.0
    again = Pinned(path, lambda: clock[0], lambda: unix[0])
    again.look()
    clock[0] += 29.0
    assert again.now.target == LOCAL
    pin_file.write(path, Pin())
    pin_file.write(path, Pin())
    again.look()
    assert again.now.target == AUTO


@given(st.floats(0, 2**33))
def test_no_jump_of_the_clock_makes_a_pin_longer(unix_s: float) -> None:
    """At most as long as it was made for."""
    assert 0 <= Pin(LOCAL, 1_000_000, 3_600).left_s(unix_s) <= 3_600


def test_a_full_disk_is_told_to_who_writes(tmp_path: Path) -> None:
    """And leaves the file as it was."""

    class Full(FileLayer):
        def sync(self, file: object) -> None:
            raise OSError(28, os.strerror(28))

    kept_file.write(tmp_path / "f", Kept(1, ()))
    with pytest.raises(OSError, match="No space"):
        kept_file.write(tmp_path / "f", kept({KEY: (OPENED, Probes())}, Clocks(1, 1)), Full())
    assert kept_file.read(tmp_path / "f") == Kept(1, ())
