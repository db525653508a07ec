"""The edits of the simulated year: the same seed gives the same year, and each week changes what it says."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def edits(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`scripts/year_edits.py` with models that take no time."""
    monkeypatch.syspath_prepend(str(repo_root / "scripts"))
    year_edits: Any = importlib.import_module("year_edits")
    monkeypatch.setattr(year_edits, "write", lambda _like, out, _size, _shape, seed: out.write_bytes(bytes([seed])))
    return year_edits


def year(edits: Any, content: Path, folder: Path, seed: int) -> tuple[list[str], dict[str, bytes]]:
    shutil.copytree(content / "documents", folder / "documents")
    shutil.copy(content / "faq.jsonl", folder)
    made = edits.Edits(folder, folder, seed)
    words = [made.week(number).words for number in range(2, 53)]
    return words, {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_seed_is_a_year(edits: Any, repo_root: Path, tmp_path: Path) -> None:
    """Twice the same, and another seed is another year; two models, seven quiet weeks, an FAQ that stays one."""
    content = repo_root / "profiles" / "demo"
    one, two, other = (year(edits, content, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one == two
    assert one[0] != other[0]
    assert sum("another model" in words for words in one[0]) == 2
    assert one[0].count("nothing") == 7
    entries = [json.loads(line) for line in one[1]["faq.jsonl"].splitlines()]
    assert len({entry["id"] for entry in entries}) == len(entries) > 60
    assert [name for name in one[1] if name.startswith("notice-")]
