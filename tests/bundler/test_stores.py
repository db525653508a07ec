"""What a profile names as `[[vectors]]` is opened, and what is wrong with one is told with its name."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bundler.build import planned
from bundler.format.errors import BadInput, LifeboatError, SourceFailed
from bundler.lock import no_lock
from bundler.plan import Embedding
from bundler.profile.model import Profile
from bundler.profile.read import parse_profile
from bundler.profile_sources import Sources
from bundler.stores import open_store, specs


def profile(base: Path, **options: Any) -> Profile:
    written = {"name": "notes", "embedding": "minilm", **options}
    embedding = {"name": "minilm", "source": "file:model/", "licence": "MIT"}
    values = {"bundle": {"name": "p", "title": "P"}, "vectors": [written], "embedding": embedding}
    return parse_profile(values, base, "profile", {})


def test_a_store_is_opened_and_planned(tmp_path: Path) -> None:
    """Its facts, its size about, and what the box is told of it; a store that is embedded anew ranks by cosine."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "text": "x", "vector": [1, 0, 0, 0]}) + "\n")
    for reembed, metric in ((False, "l2"), (True, "cosine")):
        made = profile(tmp_path, source="file:rows.jsonl", metric="l2", reembed=reembed)
        opened = open_store(made, made.vectors[0], tmp_path / "work")
        assert opened.facts.line == "jsonl 1: 1 rows of 4 dimensions, l2"
        assert opened.found(made).length_bytes == 4 * 4 * 4
        (spec,) = specs(made, {"notes": opened})
        assert spec.store is not None
        assert (spec.prefix, spec.store.metric) == ("vectors/notes", metric)


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"source": "file:rows.bin"}, BadInput, r"\[\[vectors\]\] notes: .* cannot be told"),
        ({"source": "file:gone.jsonl"}, BadInput, r"\[\[vectors\]\] notes: .* does not exist"),
        ({"source": "file:empty"}, BadInput, r"\[\[vectors\]\] notes: .* holds no chroma.sqlite3"),
        ({"source": "chroma:http://127.0.0.1:9"}, SourceFailed, r"\[\[vectors\]\] notes: .* cannot be reached"),
        ({"source": "chroma:https://h", "token": "env:NOT_SET_9"}, BadInput, r"notes: .*\$NOT_SET_9, which is not set"),
    ],
)
def test_what_is_wrong_names_the_store(tmp_path: Path, options: Any, kind: type[LifeboatError], match: str) -> None:
    """A profile may have several."""
    (tmp_path / "rows.bin").write_text("x")
    (tmp_path / "empty").mkdir()
    made = profile(tmp_path, **options)
    with pytest.raises(kind) as refused:
        open_store(made, made.vectors[0], tmp_path / "work")
    assert re.search(match, refused.value.fact)


@pytest.mark.parametrize(("told", "refused"), [(0, False), (384, False), (4, True)])
def test_only_dimensions_that_a_store_tells_are_planned_with(tmp_path: Path, told: int, *, refused: bool) -> None:
    """A server may hold rows and say nothing of their size: they are read before anything is said of their model."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "text": "x", "vector": [1, 0, 0, 0]}) + "\n")
    made = profile(tmp_path, source="file:rows.jsonl", metric="l2")
    opened = open_store(made, made.vectors[0], tmp_path / "work")
    opened = replace(opened, facts=replace(opened.facts, dimensions=told))
    sources = Sources(made, tmp_path, tmp_path, lambda _: None, opened={"notes": opened})
    converted: Any = SimpleNamespace(facts=SimpleNamespace(dimensions=384), planned=lambda: Embedding("minilm", 1))
    assert bool(planned(sources, {}, converted, no_lock()).mismatched) is refused
