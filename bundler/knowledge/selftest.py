"""The self-test of a bundle: the same cases and the same judgement at build and on the box."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bundler.format.errors import BadBundle
from bundler.format.service import SelftestSpec
from bundler.knowledge.types import Evidence, FaqResult, RouteResult

KINDS = ("faq", "documents", "refuse", "route", "model")
_FIELDS = {
    "faq": {"question", "expect"},
    "documents": {"question", "expect", "quote"},
    "refuse": {"question"},
    "route": {"input", "expect"},
    "model": {"prompt"},
}
NEEDS = {"faq": "[[faq]]", "documents": "[[documents]] or [[vectors]]", "route": "[[router]]"}
_SHOWN = 5


class Probe(Protocol):
    """What is asked: a `KnowledgeBase`, or anything that answers like one."""

    @property
    def kinds(self) -> frozenset[str]: ...

    def faq(self, question: str) -> FaqResult: ...

    def evidence(self, question: str) -> Evidence: ...

    def route(self, text: str, router: str | None = None) -> RouteResult: ...


@dataclass(frozen=True)
class Case:
    """One case; `expect` is an FAQ id, a source or a label, or None where nothing may be found."""

    kind: str
    text: str
    expect: str | None
    quote: str


@dataclass(frozen=True)
class Tally:
    """The cases of one kind: how many, how many held, and the share that is asked for in percent."""

    kind: str
    cases: int
    held: int
    percent: int

    @property
    def passed(self) -> bool:
        return self.held * 100 >= self.percent * self.cases


@dataclass(frozen=True)
class SelftestReport:
    """What held; `failures` are readable lines."""

    tallies: tuple[Tally, ...]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(tally.passed for tally in self.tallies)

    def counts(self) -> list[str]:
        """Returns a line for each kind; nothing of what the cases say, so that it may be written to a disk."""
        return [
            f"{tally.kind}: {tally.held} of {tally.cases} (at least {tally.percent} %)"
            f"{'' if tally.passed else '  FAILED'}"
            for tally in self.tallies
        ]

    def lines(self) -> list[str]:
        """Returns the counts, and the first cases of each kind that failed, for the terminal of a person."""
        failing = {tally.kind for tally in self.tallies if not tally.passed}
        shown = [line for line in self.failures if line.split(":")[0] in failing]
        return self.counts() + shown[:_SHOWN]


def read_cases(data: bytes) -> list[Case]:
    """Reads `selftest.jsonl`.

    Raises:
        BadBundle: A line is no case; it is named.
    """
    return [_case(number, line) for number, line in enumerate(data.decode().split("\n"), 1) if line.strip()]


def without_content(cases: Iterable[Case], kinds: Collection[str]) -> list[str]:
    """Returns a line for each kind of case that asks content which is not there; `kinds` is what is there."""
    asked = [case.kind for case in cases]
    return [
        f"{asked.count(kind)} cases are of kind {kind!r}, and there is no {table}"
        for kind, table in NEEDS.items()
        if kind in asked and kind not in kinds
    ]


def run(cases: Sequence[Case], probe: Probe, spec: SelftestSpec) -> SelftestReport:
    """Asks every case but those for language models, which the caller runs where an engine is.

    Raises:
        BadBundle: Cases ask content that is not there.
    """
    if lacking := without_content(cases, probe.kinds):
        raise BadBundle(f"the self-test asks what the bundle does not hold: {'; '.join(lacking)}")
    shares = {
        "faq": spec.faq_percent,
        "documents": spec.documents_percent,
        "refuse": spec.refuse_percent,
        "route": spec.route_percent,
    }
    tallies, failures = [], []
    for kind, percent in shares.items():
        asked = [case for case in cases if case.kind == kind]
        wrong = [line for case in asked if (line := holds(case, probe)) is not None]
        failures += wrong
        if asked:
            tallies.append(Tally(kind, len(asked), len(asked) - len(wrong), percent))
    return SelftestReport(tuple(tallies), tuple(failures))


def holds(case: Case, probe: Probe) -> str | None:
    """Returns None where the case holds, else a line that says what came instead."""
    found = _ASK[case.kind](case, probe)
    return None if found is None else f"{case.kind}: {case.text!r}: expected {case.expect}, found {found}"


def _faq(case: Case, probe: Probe) -> str | None:
    match = probe.faq(case.text).match
    found = match.id if match is not None else None
    return None if found == case.expect else str(found)


def _documents(case: Case, probe: Probe) -> str | None:
    """Holds where a citation is of the source, and the passage that it stands in has the quote."""
    evidence = probe.evidence(case.text)
    if not evidence.answerable:
        return f"nothing ({evidence.confidence:.2f})"
    passages = [
        hit.text
        for cited in evidence.citations
        for hit in evidence.hits
        if cited.source == hit.source == case.expect and hit.start <= cited.start and cited.end <= hit.end
    ]
    if any(case.quote in passage for passage in passages):
        return None
    return ", ".join(dict.fromkeys(cited.source for cited in evidence.citations))


def _refuse(case: Case, probe: Probe) -> str | None:
    evidence, match = probe.evidence(case.text), probe.faq(case.text).match
    if match is not None:
        return f"FAQ {match.id}"
    return f"{evidence.citations[0].source} ({evidence.confidence:.2f})" if evidence.answerable else None


def _route(case: Case, probe: Probe) -> str | None:
    label = probe.route(case.text).label
    return None if label == case.expect else str(label)


_ASK: dict[str, Callable[[Case, Probe], str | None]] = {
    "faq": _faq,
    "documents": _documents,
    "refuse": _refuse,
    "route": _route,
}


def _case(number: int, line: str) -> Case:
    try:
        return case_of(json.loads(line))
    except ValueError as error:
        raise BadBundle(f"line {number} of the self-test: {error}") from None


def case_of(row: Any) -> Case:
    """Returns the case that a line of JSON describes; raises ValueError with what is wrong."""
    try:
        kind = row["kind"]
        fields = _FIELDS[kind]
    except (KeyError, TypeError):
        raise ValueError(f"no case of {', '.join(KINDS)}") from None
    if row.keys() - {"kind"} != fields or not all(isinstance(row[key], str | None) for key in fields):
        raise ValueError(f"a case of {kind} has the fields {', '.join(sorted(fields))}")
    text = row.get("question") or row.get("input") or row.get("prompt") or ""
    return Case(kind, text, row.get("expect"), row.get("quote") or "")
