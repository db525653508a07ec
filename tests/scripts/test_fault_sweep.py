"""A drawn sample of the fault sweep; `scripts/fault_sweep --sweep` runs every step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(900)
def test_no_fault_leaves_a_repository_broken(repo_root: Path) -> None:
    """Cuts and disk errors at drawn steps of all builder commands: the state before or after; a rerun completes."""
    command = [sys.executable, str(repo_root / "scripts" / "fault_sweep"), "--sample", "150", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 faults in 14 commands, 0 left something broken" in done.stdout


@pytest.mark.timeout(900)
def test_no_fault_leaves_a_box_dark(repo_root: Path) -> None:
    """The same in install, refresh, rollback, seal, backup and restore: a whole version opens; a rerun completes."""
    command = [sys.executable, str(repo_root / "scripts" / "box_fault_sweep"), "--sample", "60", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 faults in 8 commands, 0 left a box broken" in done.stdout
