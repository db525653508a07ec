"""What the story asks: questions drawn from the demo's self-test, judged as the self-test judges them.

A draw of few may fall below what a good bundle promises. Then all of its kind are asked, and its own bar decides.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from story_box import Answer, StoryFailed, demand

DRAWN = 9  # questions a kind
NAMED = 5  # questions that a failure names

Case = dict[str, Any]


@dataclass(frozen=True)
class Held:
    """A case that held and can be shown, its answer, and how many held."""

    case: Case
    answer: Answer
    count: str


class Cases:
    """The cases of a profile's self-test, and the share of each kind in percent that it promises."""

    def __init__(self, profile: Path, chance: random.Random) -> None:
        wanted = tomllib.loads(profile.read_text())["selftest"]
        paths = [profile.parent / name.removeprefix("file:") for name in wanted.pop("cases")]
        self._cases = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        self._percent = {name.removesuffix("_percent"): percent for name, percent in wanted.items()}
        self._chance = chance

    def one(self, kind: str) -> Case:
        return self._chance.choice(self._expecting(kind))

    def holding(self, kind: str, ask: Callable[[Case], Answer]) -> Held:
        """Asks some of a kind, all of them where most of those did not hold, and returns one that held.

        Raises:
            StoryFailed: Fewer held than the bundle promises.
        """
        drawn = self._chance.sample(self._expecting(kind), DRAWN)
        asked = [(case, ask(case)) for case in drawn]
        held = [pair for pair in asked if holds(*pair)]
        if len(held) * 2 > DRAWN and (shown := _shown(kind, held)):
            return Held(*shown, f"{len(held)} of {DRAWN} drawn held")
        rest = [case for case in self._cases if case["kind"] == kind and case not in drawn]
        return _judged(kind, [*asked, *((case, ask(case)) for case in rest)], self._percent[kind])

    def _expecting(self, kind: str) -> list[Case]:
        return [case for case in self._cases if case["kind"] == kind and case.get("expect", 1)]


def holds(case: Case, answer: Answer) -> bool:
    """Tells whether an answer is what its case expects."""
    body, expected = answer.body, case.get("expect")
    if case["kind"] == "route":
        return bool(body["label"] == expected)
    sources = [citation["source"] for citation in body["citations"]]
    if case["kind"] == "refuse":
        return body["rung"] == "message" and not sources
    if case["kind"] == "faq":
        return sources == [f"faq:{expected}"] if expected else not _from_faq(answer)
    # A question that both know is the FAQ's to answer: it comes first.
    return _from_faq(answer) or expected in sources


def _judged(kind: str, asked: Sequence[tuple[Case, Answer]], percent: int) -> Held:
    held = [pair for pair in asked if holds(*pair)]
    missed = [str(case.get("question") or case.get("input")) for case, answer in asked if not holds(case, answer)]
    count = f"{len(held)} of all {len(asked)} held"
    if missed[NAMED:]:
        missed[NAMED:] = [f"and {len(missed) - NAMED} more"]
    fact = f"{kind}: only {count}, {percent} % are promised; not these:"
    demand(len(held) * 100 >= percent * len(asked), "\n  - ".join([fact, *missed]))
    shown = _shown(kind, held)
    if shown is None:
        raise StoryFailed(f"{kind}: {count}, and nothing among them that the story can show")
    return Held(*shown, f"few of {DRAWN} drawn, but {count}")


def _shown(kind: str, held: Sequence[tuple[Case, Answer]]) -> tuple[Case, Answer] | None:
    """Returns one to show: of the documents one that the FAQ did not answer before them."""
    fit = (pair for pair in held if pair[0].get("expect", 1) and not (kind == "documents" and _from_faq(pair[1])))
    return next(fit, None)


def _from_faq(answer: Answer) -> bool:
    return bool(answer.body["rung"] == "helpdesk")
