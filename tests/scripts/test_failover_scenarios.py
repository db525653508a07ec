"""The rules of the scorecard: each verdict from what the caller got and what the provider saw."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def rules(load_script: Any) -> Any:
    return load_script("failover_scenarios")


@pytest.fixture
def judged(rules: Any) -> Any:
    """Returns the verdict of a scenario, by number, for a result that is good but for what is named."""
    by_number = {scenario.number: scenario for scenario in rules.SCENARIOS}

    def judge(number: str, **facts: Any) -> str:
        good = {"ended": "answer", "whole": True, "seconds": 1.0, "primary_s": (0.0,), "second": 1, "usage": True}
        return str(rules.verdict(by_number[number], rules.Result(**{**good, "model": "ok", **facts}))[0])

    return judge


def test_all_faults_are_faults_of_the_wall(rules: Any, fault_wall: Any) -> None:
    """Sixteen of them, numbered as published."""
    assert [scenario.number for scenario in rules.SCENARIOS] == [f"S{number:02}" for number in range(1, 17)]
    used = {name for scenario in rules.SCENARIOS for name in (scenario.fault, scenario.second)}
    assert used <= set(fault_wall.FAULTS)


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, "pass"),
        ({"ended": "error", "whole": False}, "safe"),
        ({"ended": "hang", "whole": False}, "fail"),
        ({"whole": False}, "fail"),
    ],
)
def test_what_the_caller_got(judged: Any, facts: dict[str, Any], word: str) -> None:
    """An answer, an error that is told, no end, a part that is given as the whole."""
    assert judged("S08", **facts) == word


@pytest.mark.parametrize(
    ("number", "facts", "word"),
    [
        ("S01", {"primary_s": (0.0, 2.1), "second": 0}, "pass"),
        ("S01", {"primary_s": (0.0, 0.6), "second": 0}, "partial"),
        ("S01", {"primary_s": (0.0, 0.3, 0.6, 0.9)}, "fail"),
        ("S02", {"primary_s": (0.0, 1.0, 2.0)}, "pass"),
        ("S02", {"primary_s": tuple(range(7))}, "fail"),
        ("S03", {"primary_s": (0.0, 0.4), "second": 0}, "pass"),
        ("S03", {}, "partial"),
        ("S04", {"primary_s": tuple(range(7))}, "fail"),
        ("S06", {"primary_s": (0.0, 30.0)}, "partial"),
        ("S06", {"seconds": 101.0}, "fail"),
        ("S07", {"seconds": 21.0}, "partial"),
        ("S09", {"alive": False}, "fail"),
        ("S11", {"usage": False}, "partial"),
        ("S12", {"primary_s": (0.0, 1.0)}, "fail"),
        ("S16", {"model": "primary"}, "fail"),
        ("S16", {"model": "openai/ok"}, "pass"),
    ],
)
def test_how_the_provider_was_treated(judged: Any, number: str, facts: dict[str, Any], word: str) -> None:
    """What must hold fails a verdict, what should hold makes it partial."""
    assert judged(number, **facts) == word


def test_a_refusal_is_the_callers_to_see(judged: Any) -> None:
    """Whoever goes around a content filter is partial."""
    assert judged("S13", ended="error", whole=False) == "pass"
    assert judged("S13") == "partial"


def test_a_refused_prefill_is_not_what_is_told(judged: Any) -> None:
    """The primary's failure is the failure."""
    assert judged("S14", ended="error", whole=False) == "safe"
    assert judged("S14", ended="error", whole=False, prefill_refused=True) == "fail"


@pytest.mark.parametrize(
    ("facts", "word"),
    [({}, "pass"), ({"served": 14}, "fail"), ({"back_s": None}, "fail"), ({"back_s": 31.0}, "fail")],
)
def test_an_outage(rules: Any, judged: Any, facts: dict[str, Any], word: str) -> None:
    """Every request is served while it lasts, and the primary serves again soon after."""
    good = {"asked": 15, "served": 15, "attempts": 3, "back_s": 4.0, "hung": 0, "later_s": 0.1}
    assert judged("S15", outage=rules.Outage(**{**good, **facts})) == word


@pytest.mark.parametrize(
    ("facts", "word"),
    [({"billed_s": (1.0, 61.2)}, "pass"), ({"billed_s": (1.0, 41.0)}, "fail"), ({"blind": 1}, "fail")],
)
def test_what_an_outage_may_cost(rules: Any, judged: Any, facts: dict[str, Any], word: str) -> None:
    """A gateway that pays for its looks pays once a minute, and never where a look for nothing says enough."""
    outage = rules.Outage(asked=15, served=15, attempts=3, back_s=4.0, hung=0, later_s=0.1)
    assert judged("S15", outage=outage, **facts) == word
