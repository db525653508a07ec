"""What the tools of the system say of the service, for the file for supporters."""

from pathlib import Path

import pytest

from appliance.host import support_sources
from bundler.format.errors import NotReady, SystemFailed


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_tool_that_only_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty journal and one that may not be read are not the same."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="there is no journalctl"):
        list(support_sources.journal())
    tool(tmp_path, "journalctl", "exit 1")
    with pytest.raises(SystemFailed, match="journalctl ended with exit code 1"):
        list(support_sources.journal())
    tool(tmp_path, "journalctl", "exit 0")
    assert list(support_sources.journal()) == []
