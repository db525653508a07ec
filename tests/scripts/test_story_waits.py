"""Who waits in the quickstart's story is told for what: a minute without a line looks like a fault."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def box(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`scripts/story_box.py`, where sleeping is all that takes time."""
    monkeypatch.syspath_prepend(str(repo_root / "scripts"))
    module = importlib.import_module("story_box")
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return module


def test_a_long_wait_speaks(box: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """After three seconds and then four times a minute, with what is waited for and how long it may take."""
    looks = iter([None] * 40 + ["here"])
    assert box.wait_for(lambda: next(looks), 60, "the local model", every_s=1) == "here"
    told = capsys.readouterr()
    assert told.out == ""  # what a script may be read by
    assert told.err.splitlines() == [
        f"      waiting for the local model: {waited} s so far, 60 s at most" for waited in (3, 18, 33)
    ]


def test_a_short_wait_is_silent(box: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody needs a line for a second."""
    looks = iter([None, None, 1])
    assert box.wait_for(lambda: next(looks), 60, "the box", every_s=1) == 1
    assert capsys.readouterr().err == ""


def test_a_wait_in_vain_ends(box: Any) -> None:
    """With what did not come, and when."""
    with pytest.raises(box.StoryFailed, match="the box did not come within 10 s"):
        box.wait_for(lambda: None, 10, "the box", every_s=1)
