"""Commands where there is no keyring: what a courier can do, and what is told to a builder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize("words", [("keys", "new", "refresh-2"), ("keys", "list")])
def test_a_home_without_a_keyring_is_not_ready(
    lifeboat: Run, tmp_path: Path, passphrase: Path, words: tuple[str, ...]
) -> None:
    """The way out is `init`; nothing is made before it."""
    done = lifeboat(*words, *(("--passphrase-file", passphrase) if "new" in words else ()))
    assert done.exit_code == 6, done.stderr
    assert "hint: run `lifeboat init`" in done.stderr
    assert not (tmp_path / "home").exists()
