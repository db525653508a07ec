"""How long the knowledge of a version takes here: the median of five after one to warm up, by kind."""

from itertools import count
from typing import Any

from appliance.host.pace import pace, pace_line
from bundler.knowledge.selftest import Case

CASES = [Case("faq", "When?", "hours", ""), Case("route", "It smokes", "fire", ""), Case("model", "Hello", None, "")]


class Slow:
    """Knowledge whose clock moves on with every question; the first one of each kind takes a hundred times longer."""

    kinds = frozenset(("faq", "route"))

    def __init__(self) -> None:
        self.now_s, self.asked = 0.0, dict[str, int]()

    def _take(self, kind: str, seconds: float) -> Any:
        before = self.asked.get(kind, 0)
        self.asked[kind] = before + 1
        self.now_s += seconds if before else 100 * seconds

        class Nothing:
            match = label = None

        return Nothing()

    def faq(self, question: str) -> Any:
        return self._take("faq", 0.010)

    def route(self, text: str, router: str | None = None) -> Any:
        return self._take("route", 0.030)

    def evidence(self, question: str) -> Any:
        raise AssertionError("no case asks for documents")


def test_the_median_of_five_after_one_to_warm_up() -> None:
    """Few cases are asked again; kinds without a case are not asked; the cold question does not count."""
    knowledge = Slow()
    found = pace(CASES, knowledge, lambda: knowledge.now_s)
    assert {kind: round(taken) for kind, taken in found.items()} == {"faq": 10, "route": 30}
    assert knowledge.asked == {"faq": 6, "route": 6}


def test_one_slow_answer_does_not_decide() -> None:
    """The clock stands still but for one question of six."""
    ticks = count()

    def clock_s() -> float:
        return 60.0 * (next(ticks) > 8)

    assert pace(CASES[:1], Slow(), clock_s) == {"faq": 0.0}


def test_the_line_names_what_is_too_slow() -> None:
    """Only that, with the limit."""
    found = {"faq": 3.2, "documents": 5001.0}
    assert pace_line(found, 6000) == "speed: faq in 3 ms, documents in 5001 ms (at most 6000)"
    assert pace_line(found, 5000) == "speed: documents in 5001 ms (at most 5000)  FAILED"
