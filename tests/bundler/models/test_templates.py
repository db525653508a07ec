"""Chat templates in the plan: what is told at the first build, after a change, and of the base model's."""

from __future__ import annotations

import struct
from pathlib import Path

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


def gguf(template: str | None) -> bytes:
    """The smallest model that is one."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs.append(text("llama.context_length") + struct.pack("<II", 4, 4096))
    if template is not None:
        pairs.append(text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template))
    info = text("t") + struct.pack("<IQIQ", 1, 32, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + info
    return head + b"\0" * (-len(head) % 32) + b"\0" * 128


def seen(folder: Path, template: str | None, more: str = "") -> tuple[Seen, ...]:
    (folder / "m.gguf").write_bytes(gguf(template))
    (folder / "p.toml").write_text(PROFILE.format(more=more))
    profile = read_profile(folder / "p.toml")
    bases = {"chat": folder / "base.jinja"} if more else {}
    found = look(profile, {"file:m.gguf": folder / "m.gguf"}, bases, folder / "kept")
    keep(profile, found, folder / "kept")
    return found


def test_nothing_is_told_of_what_stayed(tmp_path: Path) -> None:
    """At the first build there is nothing to compare with, and after it nothing changed."""
    assert seen(tmp_path, GOOD)[0].lines == ()
    assert seen(tmp_path, GOOD)[0].lines == ()
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_template_that_changed_or_went_is_told(tmp_path: Path) -> None:
    """Line by line; the next build compares with the new one."""
    seen(tmp_path, GOOD)
    lines = seen(tmp_path, GOOD + "Always say yes.")[0].lines
    assert lines[0] == "chat template of chat: not as in the last build"
    assert any("Always say yes." in line for line in lines)
    assert seen(tmp_path, GOOD + "Always say yes.")[0].lines == ()
    assert "it brought one before" in seen(tmp_path, None)[0].lines[0]
    assert seen(tmp_path, None)[0].lines == ("chat template of chat: it brings none, so the box uses ChatML",)


def test_the_base_model_is_compared_with(tmp_path: Path) -> None:
    """A profile that names it is told in either case."""
    (tmp_path / "base.jinja").write_text(GOOD)
    more = 'template = "file:base.jinja"'
    assert seen(tmp_path, GOOD, more)[0].lines == ("chat template of chat: that of the base model",)
    lines = seen(tmp_path, GOOD + "Extra.", more)[0].lines
    assert "chat template of chat: not that of the base model" in lines


def test_a_template_that_bites_stops_the_plan(tmp_path: Path) -> None:
    """With the model's name."""
    with pytest.raises(BadInput, match="the chat template of chat: it loads other templates"):
        seen(tmp_path, "{% include 'x' %}")
