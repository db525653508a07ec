"""What is taken out of a file for supporters, and what of it stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.host.redaction import REMOVED, Redactor, journal_line, reason, selftest_lines, verdict_line


@pytest.mark.parametrize(
    "secret",
    [
        "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQQPZRY9X8GF2TVDW0S3JN",
        "AGE-SECRET-KEY-PQ-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
        "lb_0123456789abcdefABCDEF0123456789",
        "Bearer abc.def.ghi",
        "sk-proj-1234567890abcdef",
        "api_key=hunter22",
        "password: correcthorse",
        "0123-4567-89AB-CDEFG",
        "jane.doe@customer.example",
        "192.168.17.4",
        "https://api.provider.example/v1?key=abcdef",
        "https://user:word@127.0.0.1.evil.example/",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49",
        "f" * 64,
    ],
)
def test_what_looks_like_a_secret_is_removed(secret: str) -> None:
    """Whatever stands around it."""
    told = Redactor(()).text(f"it said {secret}, and ended")
    assert secret not in told
    assert REMOVED in told


@pytest.mark.parametrize(
    "text",
    [
        "serving version 3",
        "listening on http://127.0.0.1:8443",
        "repository/bundles/1-0002-a2252638/vol/0001.age",
        "NVIDIA L4, 20.0 of 22.5 GiB free, driver 570.86.10",
        "machine key file: sealed by a key file on the same disk",
        "lifeboat-appliance unit > /etc/systemd/system/lifeboat.service",
        "2026-11-21T17:19:00+00:00",
    ],
)
def test_what_a_supporter_needs_stays(text: str) -> None:
    """A file in which nothing is left helps nobody."""
    assert Redactor(()).text(text) == text


@given(st.text(min_size=4).filter(lambda text: text.strip() == text and len(text) >= 4 and "\n" not in text), st.text())
def test_a_known_value_is_never_left(value: str, around: str) -> None:
    """Wherever it stands; but for what the mark itself holds."""
    if value in REMOVED:
        return
    told = Redactor([value]).text(f"{around} {value} {around}")
    assert value not in told.replace(REMOVED, "")


def test_known_values_are_removed_from_names_too() -> None:
    """A JSON value is searched whole; a value of several lines also line by line."""
    redactor = Redactor(["open sesame", "first line\nsecond line", "abc"])
    told = redactor.value({"open sesame": ["x second line y", 1, None, {"deep": ("open sesame", True)}], "n": "abc"})
    assert told == {REMOVED: [f"x {REMOVED} y", 1, None, {"deep": [REMOVED, True]}], "n": "abc"}


def test_versions_of_programs_are_no_addresses() -> None:
    """Known values go there as well."""
    assert Redactor(["hush"], guess=False).text("12.8.4.1 hush") == f"12.8.4.1 {REMOVED}"


def test_of_a_self_test_stay_the_figures() -> None:
    """A case that failed holds a question, and what was found instead."""
    lines = (
        "faq: 75 of 80 (at least 85 %)  FAILED",
        "faq: 'who is ill?': expected x, found y",
        "model m: answers in 9 ms",
    )
    told = selftest_lines(lines)
    assert told == [lines[0], "[39 characters left out]", lines[2]]
    assert selftest_lines(["disk: 9 MB as they were signed", "disk: FAILED, secret"])[1] == "[20 characters left out]"


def test_of_a_journal_stays_what_we_write() -> None:
    """Places and classes of a traceback, our own sentences without what they quote; of all else the length."""
    lines = {
        "serving version 3": "serving version 3",
        "warning: version 4 is refused: bad 'what a client asked'": "warning: version 4 is refused: bad '...'",
        '  File "/opt/lifeboat/a.py", line 3, in answer': '  File "/opt/lifeboat/a.py", line 3, in answer',
        "ValueError: what a client asked": "ValueError [21 characters left out]",
        "    answer(question='what a client asked')": "[42 characters left out]",
        "lifeboat.service: Main process exited, code=exited": "lifeboat.service: Main process exited, code=exited",
        "": "",
    }
    assert {text: journal_line(text) for text in lines} == lines


def test_of_a_verdict_stays_that_something_was() -> None:
    """Why a person took a version back is theirs, and a nightly look quotes what failed."""
    when = "2026-11-21T00:00:00+00:00"
    assert verdict_line(f"version 2 was taken back on {when}: Jane is ill") == (
        f"version 2 was taken back on {when}: [11 characters left out]"
    )
    assert verdict_line(f"nightly look of version 1 on {when}: all held").endswith("[8 characters left out]")
    assert verdict_line("the local model is not tested") == "the local model is not tested"
    assert (
        verdict_line("provider cloud is not used: its key is not set")
        == "provider cloud is not used: its key is not set"
    )


def test_a_reason_is_one_line_without_quotes() -> None:
    """The rest of it is what a self-test found."""
    assert reason("it fails\n  faq: 'x'") == "it fails"
    assert reason("") == ""
