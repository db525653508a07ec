"""Reads router files: examples of what belongs to a label, and of what belongs to none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.format.errors import BadInputs
from bundler.ingest.lines import read_records, refuse_unknown, text_of

LEAST_EXAMPLES = 5


@dataclass(frozen=True)
class RouteExample:
    """A text and its label; `None` is out of scope."""

    text: str
    label: str | None


def read_routes(path: Path) -> list[RouteExample]:
    """Reads a JSONL or CSV router file (in CSV, an empty label is out of scope).

    Raises:
        BadInput, BadInputs: Not readable, wrong lines, fewer than two labels, or labels with too few examples.
    """
    examples = read_records(path, _example)
    counts = Counter(example.label for example in examples if example.label is not None)
    issues = [
        f"label {label!r} has {count} examples, at least {LEAST_EXAMPLES} are needed"
        for label, count in sorted(counts.items())
        if count < LEAST_EXAMPLES
    ]
    if len(counts) < 2:
        issues.append(f"{len(counts)} labels, at least two are needed")
    labels: dict[str, str | None] = {}
    for example in examples:
        if labels.setdefault(example.text.casefold(), example.label) != example.label:
            issues.append(f"{example.text!r} stands with two labels")
    if issues:
        raise BadInputs(path.name, tuple(issues))
    return examples


def _example(row: Mapping[str, Any], _: int) -> RouteExample:
    refuse_unknown(row, {"text", "label"})
    label = row.get("label")
    if label is not None and not isinstance(label, str):
        raise ValueError("label must be text or null")
    return RouteExample(text_of(row, "text", 10_000), label.strip() or None if label else None)
