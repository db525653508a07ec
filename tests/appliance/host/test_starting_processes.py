"""A serving process as its supervisor sees it: one that hangs at its start, and one that ends there."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from appliance.host import worker
from appliance.host.worker import Gone, Worker


def gone(folder: Path, script: str) -> Gone:
    """Starts a script in place of a program, and returns how it went."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)

    async def run() -> Gone:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            started = await Worker.start(program, listener, {"version": 2})
            try:
                with pytest.raises(Gone) as caught:
                    await started.serving()
                return caught.value
            finally:
                started.kill()
                await started.end(5)

    return asyncio.run(run())


def test_software_that_hangs_at_its_start_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing, not even that it lives; waiting for it has an end."""
    monkeypatch.setattr(worker, "SILENT_S", 0.3)
    found = gone(tmp_path, "exec sleep 600")
    assert str(found) == "it was killed by signal 9"
    assert not found.told


def test_software_that_ends_at_its_start_says_how(tmp_path: Path) -> None:
    """The exit code is all there is to tell."""
    assert str(gone(tmp_path, "exit 7")) == "it ended with exit code 7"
