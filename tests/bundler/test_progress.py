"""Progress never goes back, ends below 100 %, and shows in a journal as well as on a terminal."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler import terminal
from bundler.format.errors import BadInput
from bundler.terminal import Stage, Terminal, duration

STAGES = [Stage("copying", 5.0, 1_000), Stage("self-test", 10.0), Stage("switching", 1.0)]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 600), st.booleans()), max_size=30))
def test_it_never_goes_back_and_never_ends_early(steps: list[tuple[float, int, bool]]) -> None:
    """Whatever is done in whatever time, more work than foreseen included."""
    progress = Terminal(quiet=True).stages(STAGES)
    now_s, before = time.monotonic(), 0.0
    for passed_s, amount, ends in steps:
        progress.advance(amount)
        if ends:
            progress.next_stage()
        now_s += passed_s
        share, left_s, words = progress.look(now_s)
        assert before <= share <= 0.99
        assert left_s >= 0
        assert words
        before = share


def test_a_single_stage_shows_what_is_done() -> None:
    """Half of the bytes is half of the time, as far as anybody knows."""
    progress = Terminal(quiet=True).progress("copying", 1_000)
    began_s = progress._began
    assert progress.look(began_s + 1)[0] < 0.02
    progress.advance(500)
    share, left_s, words = progress.look(began_s + 10)
    assert share == pytest.approx(0.5, abs=0.01)
    assert left_s == pytest.approx(10, abs=0.5)
    assert words.startswith("copying   50%  500 B")


def test_later_stages_count() -> None:
    """When all is copied, the self-test is still to come; what is known only later joins."""
    progress = Terminal(quiet=True).stages([Stage("reading", 1.0)])
    progress.go_on(STAGES)
    progress.advance(1_000)
    _, left_s, words = progress.look(time.monotonic() + 4)
    assert left_s == pytest.approx(11)
    assert words.startswith("copying")
    progress.next_stage()
    progress.next_stage()
    progress.next_stage()  # beyond the last one: the last one goes on
    assert progress.look(time.monotonic())[2].startswith("switching")


def test_a_journal_gets_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal, whole lines tell that the work lives; with --json there are none."""
    told, lines = threading.Event(), []

    def hear(text: str) -> None:
        lines.append(text)
        told.set()

    monkeypatch.setattr(terminal, "_LINES_S", 0.01)
    heard = Terminal()
    monkeypatch.setattr(heard, "note", hear)
    with heard.stages(STAGES) as progress:
        progress.advance(10)
        assert told.wait(20)
    assert lines[0].startswith("copying")
    assert lines[0].endswith("left")
    with Terminal(json_output=True).stages(STAGES):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_note_replaces_the_line_that_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written behind a line of progress."""
    spoken = Terminal(quiet=True)
    spoken.draw_line("copying   50%")
    spoken.note("warning")
    spoken.note("again")
    spoken.clear_line()
    assert capsys.readouterr().err == "\r\x1b[Kcopying   50%\r\x1b[Kwarning\nagain\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (125, "2 min"), (5_280, "88 min"), (7_500, "2 h 5 min")]
)
def test_times_are_said_as_people_do(seconds: float, text: str) -> None:
    """Seconds, then minutes, then hours."""
    assert duration(seconds) == text


def test_what_a_message_quotes_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes and marks that turn a line come from files and servers of others; lines of our own stay lines."""
    terminal = Terminal()
    terminal.error(BadInput("one\x1b[31m\rtwo\nthree", "four\x9b1A"))
    terminal.warn("five\u202esix")
    assert capsys.readouterr().err == "error: one?[31m?two\nthree\nhint: four?1A\nwarning: five?six\n"
