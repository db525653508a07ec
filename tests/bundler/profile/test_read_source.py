"""The key `commit` of a model: it equals a revision in the source."""

from __future__ import annotations

import pytest

from bundler.profile.source import read_source
from bundler.profile.table import Table

SOURCE = "hub:org/name/model.gguf"


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ({"source": SOURCE}, SOURCE),
        ({"source": SOURCE, "commit": "unresolved"}, SOURCE),
        ({"source": SOURCE, "commit": "v1.0"}, "hub:org/name@v1.0/model.gguf"),
        ({"source": SOURCE, "commit": "a" * 40}, f"hub:org/name@{'a' * 40}/model.gguf"),
        ({"source": "hub:org/name/", "commit": "main"}, "hub:org/name@main/"),
        ({"source": "file:model.gguf"}, "file:model.gguf"),
    ],
)
def test_a_commit_stands_in_the_source(values: dict[str, object], source: str) -> None:
    """One way of writing means the same as the other, for files and folders."""
    issues: list[str] = []
    assert (read_source(Table(values, "[[model]] 1", issues)), issues) == (source, [])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"source": "file:model.gguf", "commit": "main"}, "commit is for hub: sources"),
        ({"source": "hub:org/name@main/model.gguf", "commit": "dev"}, "source names 'main' already"),
        ({"source": SOURCE, "commit": "../main"}, "commit is '../main'"),
        ({"source": SOURCE, "commit": 7}, "commit must be text"),
        ({"source": "hub:name", "commit": "main"}, "is not hub:ORG/REPO@COMMIT/FILE"),
        ({"source": "hub:org/name/model.pt", "commit": "main"}, "can carry code"),
    ],
)
def test_a_commit_that_cannot_stand_there(values: dict[str, object], match: str) -> None:
    """Each contradiction is one issue of the profile."""
    issues: list[str] = []
    read_source(Table(values, "[[model]] 1", issues))
    assert any(match in issue for issue in issues)
