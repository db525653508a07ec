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


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_courier_is_told_what_a_check_without_a_root_proves(
    lifeboat: Run, tmp_path: Path, medium: Path, command: str
) -> None:
    """Once, and not where the keyring has a root of its own."""
    unproved = "proves that nothing broke, not who signed it"
    assert unproved not in lifeboat(command, medium).stderr
    done = lifeboat(command, medium, "--home", tmp_path / "none")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count(unproved) == 1


def test_an_empty_root_is_no_root(lifeboat: Run, tmp_path: Path, medium: Path) -> None:
    """`--root "$ROOT"` with an unset variable is a mistake, and no check without a root."""
    done = lifeboat("verify", medium, "--root", "", "--home", tmp_path / "none")
    assert done.exit_code == 3
    assert "64 hexadecimal digits" in done.stderr


def test_a_clone_is_no_home(lifeboat: Run, tmp_path: Path, passphrase: Path) -> None:
    """Keys in a folder of source code would be shared with whoever gets the code."""
    (tmp_path / "home" / ".git").mkdir(parents=True)
    done = lifeboat("init", "--name", "Northquay", "--passphrase-file", passphrase)
    assert done.exit_code == 3
    assert "hint: set LIFEBOAT_HOME to a folder of its own" in done.stderr
    assert not (tmp_path / "home" / "keyring").exists()
