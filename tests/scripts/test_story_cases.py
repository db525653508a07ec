"""The questions of the quickstart's story: no draw fails a bundle that keeps its promise, nor saves an empty one."""

from __future__ import annotations

import importlib
import json
import random
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

KINDS = ("faq", "documents", "refuse", "route")


@pytest.fixture
def cases(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`scripts/story_cases.py`."""
    monkeypatch.syspath_prepend(str(repo_root / "scripts"))
    return importlib.import_module("story_cases")


@pytest.fixture
def rows(repo_root: Path) -> list[dict[str, Any]]:
    paths = (repo_root / "profiles" / "demo").glob("selftest-*.jsonl")
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def _answer(case: dict[str, Any], *, right: bool) -> SimpleNamespace:
    """What a box says that knows a case, or knows nothing at all of it."""
    expected, kind = case.get("expect"), case["kind"]
    if kind == "route":
        return SimpleNamespace(body={"label": expected if right else "another"})
    if kind == "refuse" or (kind == "faq" and not expected):
        right, expected = not right, "made-up.md"
    if not right:
        return SimpleNamespace(body={"rung": "message", "citations": []})
    found = ("helpdesk", f"faq:{expected}") if kind == "faq" else ("handbook", expected)
    return SimpleNamespace(body={"rung": found[0], "citations": [{"source": found[1]}]})


def _box(rows: list[dict[str, Any]], kind: str, percent: int, seed: int) -> Any:
    """Answers so many percent of a kind rightly."""
    texts = [json.dumps(row) for row in rows if row["kind"] == kind]
    known = set(random.Random(seed).sample(texts, -(-len(texts) * percent // 100)))
    return lambda case: _answer(case, right=json.dumps(case) in known)


@pytest.mark.parametrize("kind", KINDS)
def test_what_keeps_its_promise_holds_by_every_draw(
    cases: Any, rows: list[dict[str, Any]], repo_root: Path, kind: str
) -> None:
    """A box that knows no more than the profile asks for, three hundred seeds."""
    profile = repo_root / "profiles" / "demo.toml"
    percent = tomllib.loads(profile.read_text())["selftest"][f"{kind}_percent"]
    for seed in range(300):
        found = cases.Cases(profile, random.Random(seed)).holding(kind, _box(rows, kind, percent, seed))
        assert cases.holds(found.case, found.answer)


@pytest.mark.parametrize("kind", KINDS)
def test_what_knows_too_little_fails_by_every_draw(
    cases: Any, rows: list[dict[str, Any]], repo_root: Path, kind: str
) -> None:
    """Nothing right, and one in twenty right: the failure has the count and names five questions."""
    for percent in (0, 5):
        for seed in range(50):
            drawn = cases.Cases(repo_root / "profiles" / "demo.toml", random.Random(seed))
            with pytest.raises(cases.StoryFailed) as failed:
                drawn.holding(kind, _box(rows, kind, percent, seed))
            first, *named = str(failed.value).split("\n  - ")
            assert first.startswith(f"{kind}: only ")
            assert 5 <= len(named) <= 6
            assert set(named[:5]) <= {row.get("question") or row["input"] for row in rows if row["kind"] == kind}


def test_an_unlucky_draw_asks_all(cases: Any, rows: list[dict[str, Any]], repo_root: Path) -> None:
    """Where most of those drawn did not hold and most of all did: it goes on, and says so."""
    profile = repo_root / "profiles" / "demo.toml"
    drawn = random.Random(7).sample([row for row in rows if row["kind"] == "documents"], 9)
    found = cases.Cases(profile, random.Random(7)).holding(
        "documents", lambda case: _answer(case, right=case not in drawn)
    )
    assert found.count == "few of 9 drawn, but 51 of all 60 held"


def test_documents_that_only_the_faq_knows_are_not_shown(cases: Any, repo_root: Path) -> None:
    """The rung of the documents must answer at least one."""
    box = SimpleNamespace(body={"rung": "helpdesk", "citations": [{"source": "faq:x"}]})
    with pytest.raises(cases.StoryFailed, match="60 of all 60 held, and nothing among them"):
        cases.Cases(repo_root / "profiles" / "demo.toml", random.Random(1)).holding("documents", lambda _: box)
