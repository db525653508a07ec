"""When tickets are tried: nobody waits behind a poison ticket, nothing is thrown away, nobody is hammered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.records.delivery import (
    DESTINATION_MOST_S,
    RETRY_AFTER_MOST_S,
    TICKET_MOST_S,
    TRIES_LEAST,
    Standings,
    Verdict,
    after,
    given_up,
    judge_status,
    next_of,
    pause_s,
    without,
)

TAKEN = Verdict(sent=True, words="taken")
BROKEN = Verdict(sent=False, words="no connection", destination=True)
REFUSED = Verdict(sent=False, words="refused")
draws = st.floats(0, 1)


@given(st.integers(1, 10**6), draws, st.one_of(st.none(), st.floats(0, 1e9)))
def test_a_pause_is_bounded_and_never_shorter_than_asked(failures: int, draw: float, asked: float | None) -> None:
    """It is at most the longest, or what the receiver asked for up to an hour."""
    wait_s = pause_s(failures, TICKET_MOST_S, draw, asked)
    assert 0 < wait_s <= max(TICKET_MOST_S, RETRY_AFTER_MOST_S)
    assert wait_s >= min(asked or 0.0, RETRY_AFTER_MOST_S)


@pytest.mark.parametrize(
    ("statuses", "sent", "destination"),
    [
        ((200, 204, 409), True, False),
        ((400, 422, 500), False, False),
        ((301, 401, 403, 404, 429, 502, 503), False, True),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], sent: bool, destination: bool) -> None:
    """A refusal of one ticket holds that one, a closed door holds all; our words name the status."""
    for status in statuses:
        verdict = judge_status(status, 7.0)
        assert (verdict.sent, verdict.destination) == (sent, destination)
        assert str(status) in verdict.words


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([TAKEN, BROKEN, REFUSED]), draws), max_size=30))
def test_every_ticket_is_tried_again_within_a_bound(steps: list[tuple[str, Verdict, float]]) -> None:
    """Whatever happened, some ticket is tried after at most the longest pause, and each of them in its turn."""
    now_s, standings, waiting = 0.0, Standings(), ["a", "b", "c"]
    for ticket, verdict, draw in steps:
        standings = after(standings, ticket, verdict, now_s=now_s, draw=draw)
        now_s += 1.0
    tried = set()
    for _ in range(100):
        name, wait_s = next_of(waiting, standings, now_s)
        if name is None:
            assert wait_s is not None
            assert 0 < wait_s <= TICKET_MOST_S + 1e-6  # of differences of large numbers
            now_s += wait_s
            continue
        tried.add(name)
        standings = after(standings, name, REFUSED, now_s=now_s, draw=1.0)
    assert tried == set(waiting)


def test_a_ticket_on_which_the_receiver_dies_does_not_block_others() -> None:
    """It looks like a dead receiver each time; the others go out between its tries."""
    now_s, standings, waiting, sent = 0.0, Standings(), ["poison", "b", "c", "d"], []
    while now_s < 600 and len(waiting) > 1:
        name, wait_s = next_of(waiting, standings, now_s)
        if name is None:
            now_s += wait_s or 0.0
            continue
        verdict = BROKEN if name == "poison" else TAKEN
        standings = after(standings, name, verdict, now_s=now_s, draw=1.0)
        if verdict.sent:
            waiting.remove(name)
            sent.append(name)
    assert sent == ["b", "c", "d"]
    assert now_s <= 5.0


def test_a_dead_destination_is_tried_once_a_pause_for_all() -> None:
    """A thousand tickets make no thousand connections: in ten minutes a dead receiver sees few tries."""
    now_s, standings, tries = 0.0, Standings(), 0
    waiting = [str(number) for number in range(1_000)]
    while now_s < 600:
        name, wait_s = next_of(waiting, standings, now_s)
        if name is None:
            now_s += wait_s or 0.0
            continue
        tries += 1
        standings = after(standings, name, BROKEN, now_s=now_s, draw=1.0)
    assert tries <= 5 + 600 / DESTINATION_MOST_S
    standings = after(standings, "0", TAKEN, now_s=now_s, draw=1.0)
    assert next_of(waiting[1:], standings, now_s)[0] is not None


def test_nothing_waits_where_nothing_is() -> None:
    """An empty journal asks for no look at all, and holds of tickets that are gone go with them."""
    assert next_of([], Standings(), 0.0) == (None, None)
    held = after(Standings(), "a", REFUSED, now_s=0.0, draw=0.5)
    assert held.of("a").failures == 1
    assert without(held, ["a"]).of("a").failures == 0


@given(st.floats(0, 1e12), st.integers(0, 100), st.floats(1, 1e6))
def test_age_alone_gives_nothing_up(age_s: float, tries: int, keep_s: float) -> None:
    """A clock that jumps makes everything old; only what was also tried often is given up."""
    assert given_up(age_s=age_s, tries=tries, keep_s=keep_s) == (age_s > keep_s and tries >= TRIES_LEAST)
