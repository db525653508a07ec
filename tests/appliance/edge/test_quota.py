"""What a token has left: requests of a minute, model tokens of a day, and what is kept of them over a restart."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.edge import quota_file
from appliance.edge.allowance import DAY_S, duration, of_requests, of_tokens
from appliance.edge.grant import Grant, after_request
from appliance.edge.quota import TOKENS_MOST, Quotas

DAILY = Grant(tokens_a_day=100)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now_s: float = 20_000 * DAY_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def waits_s(quotas: Quotas, token: str, a_minute: int) -> float:
    (left,) = quotas.ask(token, Grant(requests_a_minute=a_minute), "chat")
    return left.wait_s


def test_a_limit_lets_its_number_through_at_once_and_then_one_by_one() -> None:
    """After the wait that it names a request is taken; other tokens are not held."""
    clock = Clock(0.0)
    quotas = Quotas(clock)
    assert [waits_s(quotas, "a", 3) for _ in range(3)] == [0.0] * 3
    wait_s = waits_s(quotas, "a", 3)
    assert wait_s == pytest.approx(20.0)
    assert waits_s(quotas, "b", 3) == 0.0
    clock.now_s = wait_s
    assert waits_s(quotas, "a", 3) == 0.0
    assert quotas.ask("a", Grant(), "chat") == ()


def test_quotas_forget_tokens_that_rest() -> None:
    """However many tokens come and go, memory is bounded."""
    clock = Clock(0.0)
    quotas = Quotas(clock)
    for number in range(TOKENS_MOST):
        waits_s(quotas, str(number), 60)
    clock.now_s = 100.0
    waits_s(quotas, "one more", 60)
    assert len(quotas._full_at) == 1


@settings(deadline=None)
@given(st.integers(1, 600), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_what_remains_is_what_is_taken(a_minute: int, gaps: list[float]) -> None:
    """So many more requests pass at once as the header says, and the next has to wait."""
    now_s, full_s, wait_s = 1_000.0, 0.0, 0.0
    for gap in gaps:
        now_s += gap
        full_s, wait_s = after_request(full_s, now_s, a_minute)
    left = of_requests(full_s, now_s, a_minute, wait_s)
    assert 0 <= left.remaining < a_minute
    assert 0 <= left.reset_s <= 60
    for _ in range(left.remaining):
        full_s, wait_s = after_request(full_s, now_s, a_minute)
        assert not wait_s
    assert after_request(full_s, now_s, a_minute)[1] > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.2, "1s"), (59.5, "1m0s"), (61, "1m1s"), (3_600, "1h0m0s"), (86_399.1, "24h0m0s")],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """Never too short."""
    assert duration(seconds) == text


def test_a_day_s_tokens_end_with_the_day() -> None:
    """The request that goes over the limit is served whole, the next one waits for midnight UTC, and then is served."""
    unix = Clock(20_000 * DAY_S + 3_600)
    quotas = Quotas(unix=unix)
    (left,) = quotas.ask("a", DAILY, "chat")
    assert (left.remaining, left.wait_s) == (100, 0)
    quotas.spend("a", 99)
    assert quotas.ask("a", DAILY, "chat")[0].wait_s == 0
    quotas.spend("a", 51)
    (left,) = quotas.ask("a", DAILY, "chat")
    assert (left.remaining, left.wait_s) == (0, 82_800)
    assert dict(left.headers)[b"x-ratelimit-reset-tokens"] == b"23h0m0s"
    assert quotas.ask("a", DAILY, "models") == ()
    assert quotas.ask("b", DAILY, "chat")[0].wait_s == 0
    unix.now_s += 82_800
    assert quotas.ask("a", DAILY, "chat")[0].remaining == 100
    assert of_tokens(0, 1, unix.now_s).reset_s == DAY_S


def test_a_request_that_waits_for_tokens_is_not_counted_against_the_minute() -> None:
    """Nor does the minute hide that the day is over."""
    quotas, both = Quotas(Clock(0.0), Clock()), Grant(requests_a_minute=1, tokens_a_day=1)
    quotas.spend("a", 1)
    assert [left.what for left in quotas.ask("a", both, "chat")] == ["tokens"]
    assert quotas.ask("a", both, "models")[0].wait_s == 0


def test_what_was_used_is_kept_over_a_restart(tmp_path: Path) -> None:
    """Of the same day; nothing is written where nothing was used; the file holds ids and counts."""
    path, unix = tmp_path / "quotas.json", Clock()
    first = Quotas(unix=unix, path=path)
    asyncio.run(first.keep())
    assert not path.exists()
    first.spend("a", 40)
    asyncio.run(first.keep())
    first.spend("a", 2)
    assert first.used("a") == 42
    asyncio.run(first.keep())
    assert quota_file.read(path, 20_000) == {"a": 42}
    second = Quotas(unix=unix, path=path)
    asyncio.run(second.keep())
    assert second.used("a") == 42
    unix.now_s += DAY_S
    second.spend("a", 1)
    asyncio.run(second.keep())
    assert quota_file.read(path, 20_001) == {"a": 1}


def test_two_processes_count_together(tmp_path: Path) -> None:
    """For the moment of a switch both serve: each adds its own, in whatever order they end."""
    path, unix = tmp_path / "quotas.json", Clock()
    old, new = Quotas(unix=unix, path=path), Quotas(unix=unix, path=path)
    old.spend("a", 10)
    new.spend("a", 5)
    asyncio.run(new.keep())
    asyncio.run(old.keep())
    new.spend("b", 1)
    asyncio.run(new.keep())
    assert [quotas.used("a") for quotas in (old, new)] == [15, 15]
    assert quota_file.read(path, 20_000) == {"a": 15, "b": 1}


def test_files_that_are_added_to_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each waits for the other's write."""
    path = tmp_path / "quotas.json"
    adding = [threading.Thread(target=quota_file.add, args=(path, 1, {"a": 1})) for _ in range(20)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert quota_file.read(path, 1) == {"a": 20}


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"day":20000,"format":2,"tokens":{}}', b"\xff"])
def test_a_damaged_file_counts_nothing(tmp_path: Path, data: bytes) -> None:
    """It is written anew: a quota is no reason not to serve."""
    path = tmp_path / "quotas.json"
    path.write_bytes(data)
    quotas = Quotas(unix=Clock(), path=path)
    asyncio.run(quotas.keep())
    quotas.spend("a", 1)
    asyncio.run(quotas.keep())
    assert quota_file.read(path, 20_000) == {"a": 1}


def test_a_disk_that_takes_no_note_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and what was used counts on."""
    quotas = Quotas(unix=Clock(), path=tmp_path / "nowhere" / "quotas.json")
    for _ in range(3):
        quotas.spend("a", 10)
        asyncio.run(quotas.keep())
    assert quotas.used("a") == 30
    assert len(caplog.records) == 1
