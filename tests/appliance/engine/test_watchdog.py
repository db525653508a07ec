from __future__ import annotations

import itertools

import pytest

from appliance.engine.pulse import Signs
from appliance.engine.watchdog import Patience, Seen, Watch, next_wait_s, why

PATIENCE = Patience(silent_s=10, stuck_s=30, load_s=100, look_s=1)


def seen(
    beats: int = 0,
    ticks: int = 0,
    work: bytes = b"",
    *,
    busy: bool = False,
    reads: int = 0,
    ready: bool = True,
    ram: int = 0,
) -> Seen:
    return Seen(Signs(beats, ticks, work, busy, ram), reads, ready)


def looks(*series: Seen, step_s: float = 1.0, memory_bytes: int | None = None) -> list[str | None]:
    watch = Watch(PATIENCE, memory_bytes)
    return [watch.look(item, 1000 + number * step_s) for number, item in enumerate(series)]


def first(found: list[str | None]) -> tuple[int, str]:
    return next((number, words) for number, words in enumerate(found) if words is not None)


def test_a_healthy_child_is_left_alone() -> None:
    """Idle for an hour, or busy with steps that are slow but move: no verdict."""
    idle = [seen(number, number) for number in range(3600)]
    slow = [seen(number, number, bytes([number // 25 % 2]), busy=True) for number in range(3600)]
    assert set(looks(*idle)) == set(looks(*slow)) == {None}


def test_silence_is_noticed_at_its_limit() -> None:
    """A stopped process shows no beat."""
    at, words = first(looks(*(seen(5, number) for number in range(20))))
    assert at == 10
    assert "no sign of life" in words


def test_a_step_that_hangs_is_noticed() -> None:
    """Beats and ticks go on, work is in hand and does not move."""
    at, words = first(looks(*(seen(number, number, b"x", busy=True) for number in range(40))))
    assert at == 30
    assert "stuck" in words


def test_an_event_loop_that_hangs_is_noticed_once_it_serves() -> None:
    """Before the child is ready there is no loop to tick."""
    at, words = first(looks(*(seen(number, 7) for number in range(40))))
    assert (at, "heard no request" in words) == (30, True)
    assert set(looks(*(seen(number, 0, ready=False, reads=number) for number in range(200)))) == {None}


def test_a_load_that_hangs_is_noticed() -> None:
    """Each read starts its time anew."""
    reading = [seen(number, reads=number, ready=False) for number in range(50)]
    hanging = [seen(50 + number, reads=49, ready=False) for number in range(120)]
    at, words = first(looks(*reading, *hanging))
    assert at == 49 + 100
    assert "did not become ready" in words


def test_memory_over_the_limit_is_noticed_at_once() -> None:
    """The words give both figures; without a limit nothing is said."""
    at, words = first(looks(seen(1), seen(2, ram=901_000_000), memory_bytes=900_000_000))
    assert at == 1
    assert words == "it used 901 MB of memory, its limit is 900"
    assert looks(seen(1, ram=2**50)) == [None]


def test_time_in_which_the_parent_did_not_run_is_no_silence() -> None:
    """A machine that was paused for an hour finds its engine alive."""
    assert looks(seen(1, 1, b"x", busy=True), seen(1, 1, b"x", busy=True), step_s=3600) == [None, None]


def test_the_first_restart_is_at_once_and_later_ones_wait() -> None:
    """0, 1, 2, 4 ... and never over a minute."""
    waits = [next_wait_s(failures) for failures in range(1, 200)]
    assert waits[:5] == [0, 1, 2, 4, 8]
    assert all(one <= two for one, two in itertools.pairwise(waits))
    assert max(waits) == 60


@pytest.mark.parametrize(("code", "words"), [(-9, "killed"), (-11, "signal 11"), (42, "code 42")])
def test_an_exit_code_becomes_words(code: int, words: str) -> None:
    """A signal is named as one; SIGKILL says where it may come from."""
    assert words in why(code)
