"""What ended a trial without a word, and which of it means that memory was short."""

import signal

import pytest

from appliance.host.trial import ended, failed_lines, room_bytes

MIB = 2**20


@pytest.mark.parametrize(
    ("code", "words", "fact", "short"),
    [
        (-signal.SIGKILL, "", "want of memory", True),
        (-signal.SIGABRT, "memory allocation of 4096 bytes failed", "4096 bytes", True),
        (-signal.SIGABRT, "terminate called after throwing an instance of 'std::bad_alloc'", "bad_alloc", True),
        (1, "Traceback\nRuntimeError: can't start new thread", "new thread", True),
        (1, "Traceback\nValueError: no such thing", "exit code 1: ValueError", False),
        (-signal.SIGSEGV, "", "signal 11", False),
        (-signal.SIGALRM, "", "within 600 s", False),
    ],
)
def test_an_end_without_a_word(code: int, words: str, fact: str, short: bool) -> None:
    """The fact names how it ended and the last thing it said."""
    told = ended(code, words)
    assert fact in told["failed"]
    assert told.get("short", False) is short


def test_something_is_left_to_the_rest_of_the_machine() -> None:
    """Less free than that is no room at all."""
    assert room_bytes(8192 * MIB) == 8096 * MIB
    assert room_bytes(90 * MIB) < 0


def test_what_did_not_hold_is_told_with_examples() -> None:
    """What held is not news."""
    lines = ["faq: 1 of 2 (at least 90 %)  FAILED", "route: 2 of 2 (at least 90 %)", "faq: 'x': expected a, found None"]
    assert failed_lines(lines) == [lines[0], lines[2]]
