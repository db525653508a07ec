"""The raw disk of a box that served and was killed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(900)]


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "strace"))), reason="needs root, e2fsprogs and strace"
)
def test_nothing_of_the_content_reaches_the_disk(customer: Any, repo_root: Path) -> None:
    """Models, vectors, documents, questions, answers, keys: no window in the raw image; planted ones are found."""
    words = [repo_root / "scripts" / "search_disk", customer.first, "--site-code-file", customer.code, "--each", "500"]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "were written: {}" in done.stdout
