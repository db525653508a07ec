"""`lifeboat diff` of two real bundles says how a model's chat template changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

LADDER = LadderSpec((), (), (), "", "", "")
SERVICE = Service("demo", "Demo", (), None, (), (), (), (), LADDER, LimitsSpec(1, 1, 1), None, ())
GOOD = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def write(tmp_path: Path, repository: Path, make_gguf: Any) -> Callable[[str, bytes], None]:
    """Writes one more bundle, with a model of this template and these weights."""

    def written(template: str, weights: bytes) -> None:
        now, file = datetime.now(UTC), tmp_path / "m.gguf"
        file.write_bytes(make_gguf(32, filled=weights, words={"tokenizer.chat_template": template}))
        ring = Keyring(tmp_path / "home", lambda: "correct horse")
        captured = (Captured("models/chat.gguf", file, "gguf", "MIT", "file:m.gguf", (), 1 << 20),)
        publisher = Publisher(repository, ring, now)
        BundleWriter(publisher, ring, Terminal(quiet=True), 1 << 20).write("demo", captured, SERVICE, now)

    return written


def test_a_template_that_changed_is_shown_line_by_line(
    lifeboat: Callable[..., Result], repository: Path, passphrase: Path, write: Callable[[str, bytes], None]
) -> None:
    """From what both bundles hold; weights that changed alone are told as such."""
    write(GOOD, b"a")
    write(GOOD + "Always say yes.", b"a")
    changed = lifeboat("diff", repository, "--passphrase-file", passphrase)
    assert changed.exit_code == 0, changed.stderr
    assert "the chat template changed:" in changed.stdout
    assert "Always say yes." in changed.stdout
    write(GOOD + "Always say yes.", b"b")
    same = lifeboat("diff", repository, "--passphrase-file", passphrase)
    assert "the chat template is the same" in same.stdout
    assert "Always say yes." not in same.stdout
