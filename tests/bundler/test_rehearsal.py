"""The ceremony with throw-away keys, and an `init` that was stopped half-way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def lifeboat(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LIFEBOAT_HOME": str(home), "TMPDIR": str(home.parent)}
    command = [sys.executable, "-m", "bundler", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_rehearsal_holds_and_leaves_nothing(tmp_path: Path) -> None:
    """Every step is told, the cards are marked, and neither a keyring nor a temporary folder is left."""
    done = lifeboat(tmp_path / "home", "init", "--name", "Northquay", "--rehearse")
    assert done.returncode == 0, done.stderr
    assert "all 5 steps held" in done.stdout
    assert "Owner: REHEARSAL Northquay" in done.stderr
    assert not (tmp_path / "home").exists()
    assert not list(tmp_path.glob("lifeboat-rehearsal-*"))


@pytest.mark.parametrize("lost", ["1.root.json", "msp.json"])
def test_a_stopped_init_is_completed(tmp_path: Path, lost: str) -> None:
    """Without the root or without the owner's record, the same command goes on; afterwards it refuses."""
    home, passphrase = tmp_path / "home", tmp_path / "pass"
    passphrase.write_text("correct horse")
    words = ("init", "--name", "N", "--passphrase-file", passphrase)
    assert lifeboat(home, *words).returncode == 0
    for path in home.rglob(lost):
        path.unlink()
    if lost == "msp.json":
        (home / "roots" / "1.root.json").unlink()
        # Keys without an owner may have been restored from cards: only a marker says that `init` was stopped here.
        assert lifeboat(home, *words).returncode == 7
        (home / "keyring" / ".making").touch()
    assert lifeboat(home, *words).returncode == 0
    assert lifeboat(home, *words).returncode == 7
    assert lifeboat(home, "keys", "list").returncode == 0
