"""The one line for monitoring: the worst of what was seen decides the exit code."""

from dataclasses import replace
from typing import Any

import pytest

from appliance.host.check import CRITICAL, GOOD, WARNING, Seen, Unread, judge
from appliance.host.outlook import RungTold
from appliance.host.status import Status

STATUS = Status("bristol", 3, "1-0003-0123abcd", "then", "now", 5, (), True, "", (), "", False, None, ())
ANSWER: dict[str, Any] = {"mode": "NORMAL", "ready": True, "rungs": [{"rung": "faq", "state": "ready"}]}
WELL = Seen(STATUS, True, ANSWER, 0.5)
NO_KEY = RungTold("cloud", "upstream", "off", "its key CLOUD is not set on this box")
REFUSED = RungTold("cloud", "upstream", "failing", "it does not accept our key (401)")


def test_a_healthy_box_is_good() -> None:
    """The line says what serves."""
    verdict = judge(WELL, 45)
    assert verdict.code == GOOD
    assert verdict.line() == "LIFEBOAT OK: version 3, bundle 1-0003-0123abcd, 5 days old; mode NORMAL"


@pytest.mark.parametrize(
    ("seen", "code", "words"),
    [
        (replace(WELL, served=False), CRITICAL, "nothing serves"),
        (replace(WELL, answer=None), CRITICAL, "does not answer"),
        (replace(WELL, answer={**ANSWER, "ready": False}), CRITICAL, "no rung can answer"),
        (
            replace(WELL, answer={**ANSWER, "rungs": [{"rung": "llm", "state": "failed"}]}),
            WARNING,
            "rung llm has failed",
        ),
        (replace(WELL, status=replace(STATUS, age_days=46)), WARNING, "no refresh has come"),
        (replace(WELL, status=replace(STATUS, model_tested=False)), WARNING, "not tested"),
        (replace(WELL, status=replace(STATUS, given_up=("version 4 was refused",))), WARNING, "version 4 was refused"),
        (replace(WELL, status=replace(STATUS, nightly="disk: FAILED", nightly_failed=True)), WARNING, "disk: FAILED"),
        (replace(WELL, status=replace(STATUS, nightly_age_days=4)), WARNING, "no nightly look for 4 days"),
        (replace(WELL, free_share=0.05), WARNING, "5% of the disk"),
        (replace(WELL, tls_days=13), WARNING, "its certificate ends in 13 days"),
        (replace(WELL, tls_days=-1), CRITICAL, "its certificate has ended"),
        (replace(WELL, rungs=(NO_KEY,)), WARNING, "provider cloud is not used: its key CLOUD is not set on this box"),
        (replace(WELL, rungs=(REFUSED,)), WARNING, "provider cloud is not used: it does not accept our key (401)"),
    ],
)
def test_what_is_wrong_stands_first(seen: Seen, code: int, words: str) -> None:
    """The reason that decides is the first one of the line."""
    verdict = judge(seen, 45)
    assert verdict.code == code
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("served", "attended", "code", "words"),
    [
        (False, True, CRITICAL, "nothing serves"),
        (False, False, CRITICAL, "nothing serves"),
        (True, True, GOOD, "mode NORMAL"),
        (True, False, WARNING, "cannot be read"),
    ],
)
def test_a_box_whose_state_is_not_read_is_judged_by_what_it_answers(
    served: bool, attended: bool, code: int, words: str
) -> None:
    """A box that waits for its passphrase after a power cut must not look like one that nobody knows of."""
    seen = Seen(Unread("the state cannot be read", attended), served, ANSWER if served else None, 0.5)
    verdict = judge(seen, 45)
    assert verdict.code == code
    assert words in verdict.reasons[0]
    assert "the state cannot be read" in verdict.line()


def test_a_cloud_that_is_away_is_what_the_box_is_for() -> None:
    """Its mode is told; only a key, which somebody must renew, is a warning."""
    away = replace(REFUSED, reason="connection refused")
    assert judge(replace(WELL, rungs=(away, replace(away, state="ready", reason=""))), 45).code == GOOD


def test_the_worst_decides() -> None:
    """A warning beside something critical stays critical."""
    verdict = judge(replace(WELL, served=False, free_share=0.01), 45)
    assert verdict.code == CRITICAL
    assert len(verdict.reasons) == 3
