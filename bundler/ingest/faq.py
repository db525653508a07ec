"""Reads FAQ files, and finds entries that will not work well."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.format.errors import BadInputs
from bundler.ingest.lines import read_records, refuse_unknown, text_of
from bundler.knowledge.reading import Embeds

_FIGHT_COSINE = 0.9
_KNOWN = {"id", "question", "answer", "variants"}


@dataclass(frozen=True)
class FaqEntry:
    """A question with its wordings, and the answer that is given word for word."""

    id: str
    question: str
    answer: str
    variants: tuple[str, ...]

    @property
    def wordings(self) -> tuple[str, ...]:
        return (self.question, *self.variants)


def read_faq(path: Path) -> list[FaqEntry]:
    """Reads a JSONL or CSV FAQ (in CSV, variants are separated by `|`).

    Raises:
        BadInput, BadInputs: Not readable, or lines that are wrong; ids and questions that stand twice.
    """
    entries = read_records(path, _entry)
    issues = [f"the id {name!r} stands twice" for name in _twice([entry.id for entry in entries])]
    questions = [entry.question.casefold() for entry in entries]
    issues += [f"the question {question!r} stands twice" for question in _twice(questions)]
    if issues:
        raise BadInputs(path.name, tuple(issues))
    return entries


def faq_issues(entries: Sequence[FaqEntry], encoder: Embeds | None) -> list[str]:
    """Lists entries without variants, wordings that stand in two entries, and with an encoder questions that fight."""
    advice = "no variants; add the words that people really type"
    issues = [f"{entry.id} ({entry.question!r}): {advice}" for entry in entries if not entry.variants]
    for entry in entries:
        if any(";" in variant for variant in entry.variants):
            issues.append(f"{entry.id}: a variant holds ';'; in CSV variants are separated by '|'")
    owners: dict[str, str] = {}
    for entry in entries:
        for wording in entry.wordings:
            key = " ".join(re.findall(r"\w+", wording.casefold()))
            other = owners.setdefault(key, entry.id)
            if other != entry.id:
                issues.append(f"{entry.id} and {other}: both have the wording {wording!r}")
    return issues + (_fights(entries, encoder) if encoder is not None else [])


def _fights(entries: Sequence[FaqEntry], encoder: Embeds) -> list[str]:
    texts = [(entry.id, wording) for entry in entries for wording in entry.wordings]
    vectors = encoder.embed([wording for _, wording in texts])
    cosines = vectors @ vectors.T
    issues = []
    for row, (one, wording) in enumerate(texts):
        for column in range(row + 1, len(texts)):
            other, second = texts[column]
            if one != other and cosines[row, column] >= _FIGHT_COSINE:
                issues.append(f"{one} and {other} fight: {wording!r} and {second!r} ({cosines[row, column]:.2f})")
    return issues


def _entry(row: Mapping[str, Any], number: int) -> FaqEntry:
    refuse_unknown(row, _KNOWN)
    question = text_of(row, "question", 1_000)
    variants = row.get("variants") or []
    if isinstance(variants, str):
        variants = [part for part in variants.split("|") if part.strip()]
    if not isinstance(variants, list) or not all(isinstance(item, str) and item.strip() for item in variants):
        raise ValueError("variants must be a list of texts")
    name = text_of(row, "id", 100) if row.get("id") else f"q{number}"
    return FaqEntry(name, question, text_of(row, "answer"), tuple(" ".join(item.split()) for item in variants))


def _twice(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
