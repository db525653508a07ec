"""The self-test at build: the content must answer before it is signed. The box runs the same cases again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundler.fit.near_miss import near_misses, told, tried
from bundler.format.errors import SelftestFailed
from bundler.format.service import Service
from bundler.gather import Gathered
from bundler.knowledge import same_answers, selftest
from bundler.knowledge.assets import read_lines
from bundler.knowledge.base import KnowledgeBase


def check(gathered: Gathered) -> selftest.SelftestReport | None:
    """Runs the profile's self-test on what was gathered; None where the profile has none.

    Raises:
        SelftestFailed: Too few cases of a kind hold.
    """
    spec = gathered.service.selftest
    if spec is None or gathered.encoder is None:
        return None
    files = {item.path: item.file for item in gathered.captured}
    base = load_knowledge(gathered.service, files, gathered)
    report = selftest.run(selftest.read_cases(files[spec.asset].read_bytes()), base, spec)
    if not report.passed:
        raise SelftestFailed(
            "the content fails its self-test:\n  " + "\n  ".join(report.lines()),
            "mend the content, or lower the shares in [selftest] if they ask for too much",
        )
    return report


def check_snapshots(gathered: Gathered) -> list[str]:
    """Asks each snapshot of a vector store what its store was asked; returns what is told of those that hold.

    Raises:
        SelftestFailed: What the box would search answers otherwise.
    """
    if gathered.encoder is None or not (told := same_answers.held_line(gathered.service)):
        return []
    files = {item.path: item.file for item in gathered.captured}
    base = load_knowledge(gathered.service, files, gathered)
    wrong = same_answers.check_snapshots(gathered.service, lambda path: files[path].read_bytes(), base)
    if wrong:
        raise SelftestFailed("the snapshots answer otherwise than their stores:\n  " + "\n  ".join(wrong))
    return [told]


def untested(gathered: Gathered) -> list[str]:
    """Returns what near misses of the FAQs got, for a profile that has no self-test to tell; see `fit.near_miss`."""
    if gathered.encoder is None or not gathered.service.faqs:
        return []
    files = {item.path: item.file for item in gathered.captured}
    base, lines = load_knowledge(gathered.service, files, gathered), []
    for spec in gathered.service.faqs:
        rows = read_lines(files[f"{spec.prefix}/faq.jsonl"].read_bytes())
        misses = near_misses([(row["id"], row["question"]) for row in rows])
        lines += told(tried(misses, base.faq), f"FAQ {spec.name}")
    return lines


def load_knowledge(service: Service, files: Mapping[str, Path], gathered: Gathered) -> KnowledgeBase:
    """Loads what the box will load, from the work folder."""
    if gathered.encoder is None:
        raise SelftestFailed("the profile has a self-test and no [embedding]")
    return KnowledgeBase.load(service, lambda path: files[path].read_bytes(), gathered.encoder)
