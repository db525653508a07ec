"""What passes is waited out, and no longer than was said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.errors import SourceFailed
from bundler.patience import Passing, Patience, asked_s

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


class Server:
    """Fails as it is told, then answers 42."""

    def __init__(self, *faults: Passing) -> None:
        self.faults, self.slept, self.told = list(faults), list[float](), list[str]()
        self.patience = Patience(tries=4, sleep=self.slept.append, told=self.told.append)

    def ask(self) -> int:
        if self.faults:
            raise self.faults.pop(0)
        return 42


def test_what_passes_is_waited_out_and_told() -> None:
    """Every pause is said before it is made, with its reason and its length."""
    server = Server(Passing("busy"), Passing("broken"), Passing("busy"))
    assert server.patience.keep("it", server.ask, "later") == 42
    assert server.slept == [1.0, 2.0, 4.0]
    assert server.told == [
        "it: busy; again in 1 s, try 2 of 4",
        "it: broken; again in 2 s, try 3 of 4",
        "it: busy; again in 4 s, try 4 of 4",
    ]


def test_what_does_not_pass_ends_with_its_last_fault() -> None:
    """After the last try nothing is waited for, and the cause is kept."""
    server = Server(*(Passing(f"fault {number}") for number in range(9)))
    with pytest.raises(SourceFailed, match=r"^it: fault 3, after 4 tries$") as ended:
        server.patience.keep("it", server.ask, "later")
    assert (len(server.slept), ended.value.hint) == (3, "later")
    assert isinstance(ended.value.__cause__, Passing)


@pytest.mark.parametrize(("asked", "slept"), [(0.0, 1.0), (0.5, 1.0), (7.0, 7.0), (300.0, 300.0)])
def test_a_server_may_ask_for_a_longer_pause(asked: float, slept: float) -> None:
    """What it asks for is kept to; less than our own pause is not taken, or the tries were used up in a moment."""
    server = Server(Passing("busy", asked))
    server.patience.keep("it", server.ask, "later")
    assert server.slept == [slept]


def test_more_than_is_borne_ends_it_at_once() -> None:
    """Nobody waits a day on a server's word, and asking sooner than it allows would be no use."""
    server = Server(Passing("it answers 429", 86400.0))
    with pytest.raises(SourceFailed, match=r"^it: it answers 429 and asks to wait 86400 s, after 1 try$"):
        server.patience.keep("it", server.ask, "later")
    assert server.slept == []


def test_a_try_that_got_on_begins_the_count_anew() -> None:
    """A long download over a bad line ends only where it stands still."""
    server = Server(*(Passing("broken") for _ in range(20)))
    assert server.patience.keep("it", server.ask, "later", lambda: True) == 42
    assert set(server.slept) == {1.0}


def test_what_is_no_passing_fault_is_not_tried_again() -> None:
    """A fault of our own comes out as it is."""
    patience = Server().patience

    def wrong() -> int:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        patience.keep("it", wrong, "later")


@given(failures=st.integers(1, 5), asked=st.none() | st.floats(0, 1e12))
def test_a_pause_is_bounded(failures: int, asked: float | None) -> None:
    """Never less than our own, never more than the longest that may be asked for."""
    patience = Patience()
    pause_s = patience.pause_s(failures, asked)
    if pause_s is None:
        assert asked is not None
        assert asked > patience.asked_most_s
    else:
        assert patience.first_s <= pause_s <= patience.asked_most_s
        assert replace(patience, tries=failures).pause_s(failures, asked) is None


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("9" * 400, 999_999_999_999.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("\u0663", None),
        ("soon", None),
        ("Sun, 22 Nov 2026 12:01:30 -0000", None),
        ("Sun, 22 Nov 99999999999999999999 12:00:00 GMT", None),
        ("Sun, 22 Nov 2026 12:00:00 +99999999999999999999999", None),
    ],
)
def test_a_wait_that_is_asked_for(told: str, seconds: float | None) -> None:
    """Seconds or a date; what is neither is none, however odd."""
    assert asked_s({"Retry-After": told}, NOW) == seconds


@given(st.text(max_size=60))
def test_any_text_is_read(told: str) -> None:
    """No word of a server ends the program."""
    assert (asked_s({"Retry-After": told}, NOW) or 0.0) >= 0.0
