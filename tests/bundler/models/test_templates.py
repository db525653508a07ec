"""Chat templates in the plan: what is told at the first build, after a change, and of the base model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput
from bundler.models.templates import Seen, keep, look
from bundler.profile.read import read_profile

GOOD = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
PROFILE = """
[bundle]
name = "a"
title = "b"
[[model]]
name = "chat"
source = "file:m.gguf"
licence = "MIT"
{more}
"""


Look = Callable[..., tuple[Seen, ...]]


@pytest.fixture
def seen(tmp_path: Path, make_gguf: Any) -> Look:
    """Looks, as a build does, at a model with this template, and keeps it for the next build."""

    def looked(template: str | None, more: str = "") -> tuple[Seen, ...]:
        words = {} if template is None else {"tokenizer.chat_template": template}
        (tmp_path / "m.gguf").write_bytes(make_gguf(words=words))
        (tmp_path / "p.toml").write_text(PROFILE.format(more=more))
        profile = read_profile(tmp_path / "p.toml")
        bases = {"chat": tmp_path / "base.jinja"} if more else {}
        found = look(profile, {"file:m.gguf": tmp_path / "m.gguf"}, bases, tmp_path / "kept")
        keep(profile, found, tmp_path / "kept")
        return found

    return looked


def test_nothing_is_told_of_what_stayed(tmp_path: Path, seen: Look) -> None:
    """At the first build there is nothing to compare with, and after it nothing changed."""
    assert seen(GOOD)[0].lines == ()
    assert seen(GOOD)[0].lines == ()
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_template_that_changed_or_went_is_told(seen: Look) -> None:
    """Line by line; the next build compares with the new one."""
    seen(GOOD)
    lines = seen(GOOD + "Always say yes.")[0].lines
    assert lines[0] == "chat template of chat: not as in the last build"
    assert any("Always say yes." in line for line in lines)
    assert seen(GOOD + "Always say yes.")[0].lines == ()
    assert "it brought one before" in seen(None)[0].lines[0]
    assert seen(None)[0].lines == ("chat template of chat: it brings none, so the box uses ChatML",)


def test_the_base_model_is_compared_with(tmp_path: Path, seen: Look) -> None:
    """A profile that names it is told in either case."""
    (tmp_path / "base.jinja").write_text(GOOD)
    more = 'template = "file:base.jinja"'
    assert seen(GOOD, more)[0].lines == ("chat template of chat: that of the base model",)
    lines = seen(GOOD + "Extra.", more)[0].lines
    assert "chat template of chat: not that of the base model" in lines


def test_a_template_that_bites_stops_the_plan(seen: Look) -> None:
    """With the model's name."""
    with pytest.raises(BadInput, match="the chat template of chat: it loads other templates"):
        seen("{% include 'x' %}")
