"""What the journal takes, and what a restart makes of work that was begun."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.records.entry import STATES, Bounds, Entry, Full, Standing, restarted, room

small = st.integers(0, 30)
bounds = st.builds(Bounds, entries=small, payload_bytes=small, one_bytes=small)
entries = st.lists(
    st.builds(
        Entry,
        id=st.uuids().map(str),
        kind=st.just("k"),
        tenant=st.just("t"),
        state=st.sampled_from(STATES),
        made_s=small,
        ended_s=small,
        tries=small,
        words=st.just(""),
    )
)


@given(bounds, small, small, small)
def test_what_is_taken_stays_inside_every_bound(limits: Bounds, count: int, held: int, new: int) -> None:
    """Work is taken exactly where all three bounds hold with it."""
    fits = new <= limits.one_bytes and count + 1 <= limits.entries and held + new <= limits.payload_bytes
    assert (room(limits, entries=count, payload_bytes=held, new_bytes=new) is None) == fits


def test_what_is_too_long_is_told_before_what_is_too_many() -> None:
    """The reason that waiting does not mend comes first."""
    assert room(Bounds(0, 0, 0), entries=9, payload_bytes=9, new_bytes=1) is Full.ONE


@given(entries, st.integers(0, 5))
def test_a_restart_takes_every_begun_piece_of_work_once(found: list[Entry], most: int) -> None:
    """Begun work is done again or given up, never both nor neither; other work is left alone."""
    outcome = restarted(found, most)
    assert sorted(outcome.again + outcome.given_up) == sorted(one.id for one in found if one.state == "begun")
    tries = {one.id: one.tries for one in found}
    assert all(most == 0 or tries[name] < most for name in outcome.again)
    assert all(most and tries[name] >= most for name in outcome.given_up)


def test_the_age_of_what_waits_is_never_negative() -> None:
    """A clock that went back makes no negative age, and where nothing waits there is none."""
    assert Standing(1, 1_000).age_s(1_060.9) == 60
    assert Standing(1, 1_000).age_s(10) == 0
    assert Standing(0, 0).age_s(10) == 0
