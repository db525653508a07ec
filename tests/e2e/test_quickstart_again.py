"""The quickstart's story on one folder twice: the second run finds a box that remembers the outage of the first."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.gateway.kept_file import read

pytestmark = [pytest.mark.llm, pytest.mark.timeout(900)]


def _words(repo_root: Path, folder: Path, *options: str) -> list[str]:
    return [sys.executable, str(repo_root / "scripts" / "story.py"), "--folder", str(folder), "--no-build", *options]


def test_a_run_ended_in_the_outage_is_told_again(
    repo_root: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Ended once the cloud is dead, the box keeps that it is; the next run on its folder holds to the last step."""
    folder = tmp_path_factory.mktemp("story")
    shutil.copytree(wheelhouse, folder / "wheels", copy_function=lambda a, b: Path(b).hardlink_to(a))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(_words(repo_root, folder), stdout=subprocess.PIPE, stderr=log, text=True) as first,
    ):
        try:
            assert first.stdout is not None
            assert any(line.startswith("  (c) ") for line in first.stdout), (folder / "log").read_text()
        finally:
            first.terminate()  # a kill would leave its servers behind
            first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert [each.name for each in read(folder / "state" / "gateway.json").upstreams] == ["fake-cloud"]
    again = subprocess.run(
        _words(repo_root, folder, "--once"), capture_output=True, text=True, timeout=500, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "nothing to do\nits last self-test, which was not run again now:\n" in again.stdout
    assert again.stdout.endswith("== every step held\n")
    shutil.rmtree(folder)
